"""The arguments that several commands share, and the config that they add up to."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omnidet.config import Config


def add_config(parser: argparse.ArgumentParser) -> None:
    """CONFIG and what changes how it is read."""
    parser.add_argument('config', metavar='CONFIG',
                        help='a config file, or a name of the zoo such as rtmdet/rtmdet_tiny')
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """What changes how a config is read."""
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='change values of the config: train_dataloader.batch_size=4 model.neck.out_channels=96 '
                             'a.b="[1, 2]" c="dict(d=1)"')
    parser.add_argument('--trust', action='store_true',
                        help='execute the config as Python and load pickled checkpoints in full: only for files whose '
                             'author you trust')
    parser.add_argument('--import', dest='imports', action='append', default=[], metavar='MODULE',
                        help='import a module of yours first (one that registers a backbone, say); a name as in '
                             '`import my_parts`, or a file my_parts.py; may be repeated')


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda, cuda:1, mps; the best there is by default')


def add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--data-root', type=Path, metavar='DIR',
                        help='where the data set lies, in place of the data_root in the config. The files below it '
                             'keep the names that the config gives them; for the COCO configs of the zoo: '
                             'annotations/instances_train2017.json and instances_val2017.json, train2017/, val2017/')


def read_config(args: argparse.Namespace, tell: bool = True, check: bool = True) -> Config:
    """The config that `args` names, with its overrides, after the user's modules are imported.

    Args:
        args: of the command line.
        tell: say on stderr where it is written for MMDetection 2.x.
        check: refuse it where its entries are not the dicts and lists that every run takes them for.

    Raises:
        ConfigError: it cannot be read, or is refused.
    """
    for name in args.imports:
        import_user_module(name)
    from omnidet.config import load_config
    cfg = load_config(args.config, args.cfg_options, trust=args.trust)
    if tell and cfg.changes and os.environ.get('RANK', '0') == '0':    # one of the processes of a training
        print(f'{cfg.filename} is written for MMDetection 2.x and read in the form of 3.x, {len(cfg.changes)} entries '
              'changed; `omnidet config upgrade` lists them', file=sys.stderr)
    if check:
        from omnidet.config.check import check_forms
        check_forms(cfg)
    return cfg


def import_user_module(name: str) -> None:
    """Import a module from the working directory or the environment: 'my_parts', 'pkg.parts', or 'dir/my_parts.py'.

    Raises:
        OmniDetError: there is no such module, or it cannot be imported.
    """
    from omnidet.compat.user_code import import_user_code
    import_user_code(name, '--import')
