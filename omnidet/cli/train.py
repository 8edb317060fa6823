"""Train a model and leave in the work folder: the config, checkpoints, a log, and the curves.

  omnidet train rtmdet/rtmdet_tiny --data-root my/coco        a model of the zoo on data in COCO's layout
  omnidet train my_config.py --cfg-options train_cfg.max_epochs=20
  omnidet train my_config.py --resume                         go on where the last run stopped
  torchrun --nproc-per-node 4 -m omnidet train my_config.py   on four GPUs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from omnidet.cli.arguments import add_config, add_data_root, add_device, read_config
from omnidet.errors import ConfigError

if TYPE_CHECKING:
    from omnidet.config import Config

HELP = 'train a model from a config'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data_root(parser)
    add_device(parser)
    parser.add_argument('--work-dir', type=Path, metavar='DIR',
                        help='where to write; work_dirs/<name of the config> by default')
    parser.add_argument('--resume', nargs='?', const=True, default=False, metavar='CKPT',
                        help='go on from this checkpoint, or without a name from the last one in the work folder')
    parser.add_argument('--load-from', metavar='CKPT', help='begin with the weights of this file or address')
    parser.add_argument('--seed', type=int, metavar='N', help='make the run repeatable')
    parser.add_argument('--amp', action='store_true', help='mixed precision: faster and smaller on a GPU')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate from auto_scale_lr.base_batch_size to the actual batch')


def run(args: argparse.Namespace) -> None:
    cfg = read_config(args)
    apply_switches(cfg, amp=args.amp, auto_scale_lr=args.auto_scale_lr)
    if args.data_root is not None:
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=('train', 'val') if cfg.get('val_dataloader') else ('train',))
    from omnidet.cli.classes import check_classes
    check_classes(cfg, ('train', 'val'))
    from omnidet.engine import train
    train(cfg, work_dir=args.work_dir, resume=args.resume, load_from=args.load_from, device=args.device,
          trust=args.trust, seed=args.seed)


def apply_switches(cfg: Config, amp: bool = False, auto_scale_lr: bool = False) -> None:
    """Write `--amp` and `--auto-scale-lr` into the config, in place, as a user would have written them.

    Raises:
        ConfigError: the config does not say for which batch size its learning rate is meant.
    """
    if amp:
        cfg['optim_wrapper']['type'] = 'AmpOptimWrapper'
        cfg['optim_wrapper'].setdefault('loss_scale', 'dynamic')
    if auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ConfigError('--auto-scale-lr: the config does not say for which batch size its learning rate is '
                              'meant; add auto_scale_lr = dict(base_batch_size=16)')
        cfg['auto_scale_lr']['enable'] = True
