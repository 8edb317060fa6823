"""Write one COCO json from annotations in another format.

  voc   a folder with Annotations/*.xml, JPEGImages/ and ImageSets/Main/SPLIT.txt (Pascal VOC and its many users)
  yolo  a folder with images/SPLIT/ and labels/SPLIT/*.txt, or a data.yaml that says where they are
  via   a folder with images and VIA's region json (VGG Image Annotator)

What cannot be used (boxes without area, images that are missing) is left out, counted, and listed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from omnidet.cli.classes import read_category_names

HELP = 'write a COCO json from Pascal VOC, YOLO or VIA annotations'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', choices=('voc', 'yolo', 'via'), help='the format to read')
    parser.add_argument('root', metavar='SRC', type=Path, help="the data set's folder")
    parser.add_argument('--to', choices=('coco',), default='coco', help='the format to write')
    parser.add_argument('--out', metavar='FILE', type=Path, required=True, help='the json to write')
    parser.add_argument('--split', default='train', metavar='NAME',
                        help='which part of the set: train, val, test, ... (default: train)')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help='the classes to keep, in the order of their labels; all that occur, by default')


def run(args: argparse.Namespace) -> None:
    from omnidet.data import convert
    functions = {'voc': convert.voc_to_coco, 'yolo': convert.yolo_to_coco, 'via': convert.via_to_coco}
    summary = functions[args.source](args.root, args.split, args.out, classes=args.classes)
    print(f'{args.out}: {describe(summary)}')
    print(config_lines(args.out, summary['folder']))


def config_lines(out: Path, folder: str) -> str:
    """What a config says to read the json: its classes, its path, and the folder that image names are relative to."""
    names, images = tuple(read_category_names(out)), Path(folder).as_posix()
    return (f'in a config:\n  classes = {names!r}\n'
            f"  dataset=dict(data_root='', ann_file={out.as_posix()!r}, data_prefix=dict(img={images!r}),\n"
            '               metainfo=dict(classes=classes))')


def describe(summary: dict[str, Any]) -> str:
    """A converter's summary in words: the counts first, what was skipped and why below them."""
    counts, details = [], []
    for key, value in summary.items():
        if isinstance(value, int):
            counts.append(f'{value} {key}')
        elif isinstance(value, dict):
            details += [f'  {key}: {name}: {reason}' for name, reason in value.items()]
        elif isinstance(value, (list, tuple)) and value:
            details += [f'  {key}: {item}' for item in value]
    return '\n'.join([', '.join(counts), *details])
