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
from omnidet.cli.legacy import add_training, apply_launch
from omnidet.errors import ConfigError, OmniDetError

if TYPE_CHECKING:
    from omnidet.config import Config

HELP = 'train a model from a config'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data_root(parser)
    add_device(parser)
    parser.add_argument('--work-dir', '--work_dir', type=Path, metavar='DIR',
                        help='where to write; work_dirs/<name of the config> by default')
    parser.add_argument('--resume', nargs='?', const=True, default=False, metavar='CKPT',
                        help='go on from this checkpoint, or without a name from the last one in the work folder')
    parser.add_argument('--load-from', metavar='CKPT', help='begin with the weights of this file or address')
    parser.add_argument('--seed', type=int, metavar='N', help='make the run repeatable')
    parser.add_argument('--amp', action='store_true', help='mixed precision: faster and smaller on a GPU')
    parser.add_argument('--auto-scale-lr', '--autoscale-lr', action='store_true',
                        help='scale the learning rate from auto_scale_lr.base_batch_size to the actual batch')
    add_training(parser)


def run(args: argparse.Namespace) -> None:
    resume = resume_of(args)
    apply_launch(args, 'train')
    cfg = read_config(args)
    apply_switches(cfg, args.amp, args.auto_scale_lr, args.no_validate, args.deterministic)
    if args.data_root is not None:
        from omnidet.config.data_root import set_data_root
        set_data_root(cfg, args.data_root, splits=('train', 'val') if cfg.get('val_dataloader') else ('train',))
    from omnidet.cli.classes import check_classes
    check_classes(cfg, ('train', 'val'))
    from omnidet.engine import train
    train(cfg, work_dir=args.work_dir, resume=resume, load_from=args.load_from, device=args.device,
          trust=args.trust, seed=args.seed)


def resume_of(args: argparse.Namespace) -> bool | str:
    """What `--resume`, `--resume auto`, `--resume-from` and `--auto-resume` come to.

    Raises:
        OmniDetError: two of them name different checkpoints.
    """
    resume = True if args.resume == 'auto' and not Path('auto').exists() else args.resume
    if args.resume_from is not None:
        if isinstance(resume, str) and resume != args.resume_from:
            raise OmniDetError(f'--resume {resume} and --resume-from {args.resume_from}: give one of them')
        return args.resume_from
    return resume or args.auto_resume


def apply_switches(cfg: Config, amp: bool = False, auto_scale_lr: bool = False, no_validate: bool = False,
                   deterministic: bool = False) -> None:
    """Write `--amp`, `--auto-scale-lr`, `--no-validate` and `--deterministic` into the config, in place.

    They are written as a user would have written them.

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
    if no_validate:
        cfg.update(val_dataloader=None, val_evaluator=None, val_cfg=None)
    if deterministic:
        cfg['randomness'] = {**(cfg.get('randomness') or {}), 'deterministic': True}
