"""Find objects in images, and write pictures and a COCO json of what was found.

  omnidet predict my_config.py work_dirs/my_config/best.pth my/images
  omnidet predict rtmdet/rtmdet_tiny rtmdet_tiny.pth street.jpg park.png --out found --score-thr 0.5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from omnidet.cli.arguments import add_config, add_device, read_config

if TYPE_CHECKING:
    from omnidet.inference import PredictSummary

HELP = 'find objects in images, draw them and write them down'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a .pth file, or the address of one')
    parser.add_argument('images', metavar='IMAGES', nargs='+', type=Path, help='image files, or folders of them')
    parser.add_argument('--out', type=Path, default=Path('predictions'), metavar='DIR',
                        help='where pictures/ and detections.json go (default: predictions)')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='X',
                        help='the lowest score that is drawn and counted; the json has all (default: 0.3)')
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='images at once (default: 1)')
    parser.add_argument('--no-pictures', action='store_true', help='write the json only')
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    from omnidet.inference import Detector, predict_to
    detector = Detector(read_config(args), args.checkpoint, args.device, trust=args.trust)
    summary = predict_to(args.out, detector, args.images, args.score_thr, max(args.batch_size, 1),
                         pictures=not args.no_pictures, progress=True)
    print_summary(summary, args.score_thr)


def print_summary(summary: PredictSummary, score_thr: float) -> None:
    """Say what was found, how fast, and where it lies."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column('class')
    table.add_column(f'score >= {score_thr:g}', justify='right')
    for name, count in summary.counts.items():
        table.add_row(name, str(count))
    if summary.counts:
        console.print(table)
    else:
        console.print(f'no detections with a score of {score_thr:g} or more')
    rate = summary.images / max(summary.seconds, 1e-9)
    console.print(f'{summary.images} images in {summary.seconds:.1f} s, {rate:.1f} images/s')
    for reason in summary.broken:
        console.print(f'left out: {reason}', markup=False, style='yellow')
    if summary.pictures:
        console.print(f'pictures:   {summary.pictures[0].parent}', markup=False, soft_wrap=True)
    console.print(f'detections: {summary.json_path}', markup=False, soft_wrap=True)
    if summary.panoptic_path is not None:
        console.print(f'segments:   {summary.panoptic_path}', markup=False, soft_wrap=True)
