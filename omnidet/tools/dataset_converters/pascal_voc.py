"""Write COCO jsons of all splits of Pascal VOC: `python -m omnidet.tools.dataset_converters.pascal_voc DEVKIT -o DIR`.

DEVKIT holds VOC2007/, VOC2012/ or both; the files are named as MMDetection names them: voc07_trainval.json. For one
split of any set of that form there is `omnidet convert voc`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omnidet.cli import report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('devkit_path', type=Path, metavar='DEVKIT', help='the folder that VOC2007/ or VOC2012/ lies in')
    parser.add_argument('-o', '--out-dir', type=Path, metavar='DIR', help='where the files go; DEVKIT by default')
    parser.add_argument('--out-format', choices=('coco', 'voc'), default='coco',
                        help="coco; MMDetection's own pickles (voc) are not written, as VOCDataset reads the xml files")
    args = parser.parse_args()
    try:
        return convert(args.devkit_path, args.out_dir or args.devkit_path, args.out_format)
    except Exception as e:
        return report(e)


def convert(devkit: Path, out: Path, out_format: str = 'coco') -> int:
    """Convert every split that is there, and say what was written."""
    from omnidet.data.convert import voc_to_coco
    from omnidet.data.datasets.voc import VOC_CLASSES
    from omnidet.errors import DatasetError
    if out_format != 'coco':
        raise DatasetError('--out-format voc: no pickles are written; VOCDataset reads the xml files as they are')
    years = [year for year in ('2007', '2012') if (devkit / f'VOC{year}').is_dir()]
    if not years:
        raise DatasetError(f'{devkit} has neither VOC2007/ nor VOC2012/; for a set of another name there is '
                           '`omnidet convert voc FOLDER --split train --to coco --out FILE`')
    for year in years:
        root = devkit / f'VOC{year}'
        for split in ('train', 'val', 'trainval', 'test'):
            if (root / 'ImageSets' / 'Main' / f'{split}.txt').is_file():
                path = out / f'voc{year[2:]}_{split}.json'
                found = voc_to_coco(root, split, path, classes=list(VOC_CLASSES))
                print(f'{path}: {found["images"]} images, {found["boxes"]} boxes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
