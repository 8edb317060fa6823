"""Train a small RTMDet on rendered shapes and draw what it finds: about three minutes on two cores, no download.

Everything lands in one folder: the data set, the checkpoint, the log, the curves, and a sheet of predictions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from omnidet.cli.arguments import add_device

HELP = 'see a detector train, score and draw, without any download'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--out', type=Path, default=Path('omnidet_demo'), metavar='DIR',
                        help='where to write (default: omnidet_demo)')
    parser.add_argument('--epochs', type=int, metavar='N', help="epochs to train; the config's number by default")
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='of the pictures and of training (default: 0)')
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    from omnidet.demo.run import run_demo
    run_demo(args.out, epochs=args.epochs, seed=args.seed, device=args.device)
