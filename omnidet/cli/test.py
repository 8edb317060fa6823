"""Score a checkpoint on the test set of a config.

  omnidet test my_config.py work_dirs/my_config/epoch_300.pth
  omnidet test rtmdet/rtmdet_tiny rtmdet_tiny.pth --data-root my/coco --out results.json --show-dir pictures
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnidet.cli.arguments import add_config, add_data_root, add_device, read_config
from omnidet.errors import ConfigError

HELP = 'score a checkpoint on a test set'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a .pth file, or the address of one')
    add_data_root(parser)
    add_device(parser)
    parser.add_argument('--work-dir', type=Path, metavar='DIR', help='where the log goes')
    parser.add_argument('--out', type=Path, metavar='FILE',
                        help="write the detections as COCO's results; results.json gives results.bbox.json, and "
                             'results.segm.json where masks are measured')
    parser.add_argument('--show-dir', type=Path, metavar='DIR',
                        help='write the test images with their detections drawn')
    parser.add_argument('--tta', action='store_true',
                        help='test-time augmentation: predict several versions of each image, as tta_pipeline says '
                             '(otherwise as it is and mirrored), and merge the detections')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='X',
                        help='the lowest score that is drawn (default: 0.3)')


def run(args: argparse.Namespace) -> None:
    cfg = read_config(args)
    if args.data_root is not None:
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=('test',))
    from omnidet.cli.classes import check_classes
    from omnidet.engine import test
    check_classes(cfg, ('test',))
    if args.show_dir is None:
        test(cfg, args.checkpoint, work_dir=args.work_dir, device=args.device, trust=args.trust, out=args.out,
             tta=args.tta)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder, 'results.json')
        started = time.time()
        test(cfg, args.checkpoint, work_dir=args.work_dir, device=args.device, trust=args.trust, out=out,
             tta=args.tta)
        written = [p for kind in ('segm', 'bbox') if (p := out.with_suffix(f'.{kind}.json')).exists()
                   and p.stat().st_mtime >= started - 2]    # not those of an earlier run; clocks of disks are coarse
        if not written:
            raise ConfigError('--show-dir draws what a CocoMetric with the metric bbox or segm writes; test_evaluator '
                              'has none')
        count = draw_results(cfg, written[0], args.show_dir, args.score_thr)
    print(f'{count} pictures: {args.show_dir}')


def draw_results(cfg: Mapping[str, Any], results: Path, folder: Path, score_thr: float) -> int:
    """Draw the detections of a results json, and the annotated boxes dashed beneath them, on every test image.

    Args:
        cfg: a whole config, whose test set the results are of.
        results: COCO's results json: rows of image_id, category_id, bbox (xywh), score, and where there are masks
            segmentation (run lengths).
        folder: where the pictures go, under the images' own names.
        score_thr: the lowest score that is drawn.

    Returns:
        how many pictures were written.
    """
    import cv2
    import torch

    from omnidet.data import build_dataset
    from omnidet.data.masks import BitmapMasks
    from omnidet.data.transforms.loading import read_image
    from omnidet.files import written_whole
    from omnidet.structures import Result
    from omnidet.visualization import draw
    dataset = build_dataset(cfg['test_dataloader']['dataset'], test_mode=True)
    label_of = {category: label for label, category in enumerate(dataset.cat_ids)}
    rows_of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in json.loads(results.read_text(encoding='utf-8')):
        rows_of[row['image_id']].append(row)
    records = [dataset.load(i) for i in range(len(dataset))]
    common = os.path.commonpath([Path(record['img_path']).parent for record in records])
    for record in records:
        rows = rows_of[record['img_id']]
        boxes = torch.tensor([row['bbox'] for row in rows]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]    # xywh -> xyxy
        found = Result(boxes=boxes, scores=torch.tensor([row['score'] for row in rows]),
                       labels=torch.tensor([label_of[row['category_id']] for row in rows], dtype=torch.long))
        if rows and all('segmentation' in row for row in rows):
            masks = [row['segmentation'] for row in rows]
            found = found.replace(masks=BitmapMasks.from_annotations(masks, *masks[0]['size']).to_instance_masks())
        objects = record['instances']
        truth = dict(boxes=[o['bbox'] for o in objects], labels=[o['bbox_label'] for o in objects])
        picture = draw(read_image(record['img_path']), found, dataset.classes, score_thr, truth=truth)
        with written_whole(folder / Path(record['img_path']).relative_to(common).with_suffix('.jpg')) as path:
            path.write_bytes(cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    return len(records)
