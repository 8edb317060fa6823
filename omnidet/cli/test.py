"""Score a checkpoint on the test set of a config.

  omnidet test my_config.py work_dirs/my_config/best.pth
  omnidet test rtmdet/rtmdet_tiny rtmdet_tiny.pth --data-root my/coco --out results.json --show-dir pictures
"""

from __future__ import annotations

import argparse
from pathlib import Path

from omnidet.cli.arguments import add_config, add_data_root, add_device, read_config

HELP = 'score a checkpoint on a test set'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', type=Path, help='a .pth file')
    add_data_root(parser)
    add_device(parser)
    parser.add_argument('--work-dir', type=Path, metavar='DIR', help='where the log goes')
    parser.add_argument('--out', type=Path, metavar='FILE', help="write the detections as COCO's results json")
    parser.add_argument('--show-dir', type=Path, metavar='DIR',
                        help='write the test images with their detections drawn')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='X',
                        help='the lowest score that is drawn (default: 0.3)')


def run(args: argparse.Namespace) -> None:
    cfg = read_config(args)
    if args.data_root is not None:
        from omnidet.cli.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=('test',))
    from omnidet.cli.classes import check_classes
    from omnidet.engine import test
    check_classes(cfg, ('test',))
    test(cfg, args.checkpoint, work_dir=args.work_dir, device=args.device, trust=args.trust, out=args.out)
