"""Look at a config as it resolves, hold it against the code, and bring one of MMDetection 2.x into the form of 3.x.

  omnidet config show rtmdet/rtmdet_tiny                      the whole experiment as one file that loads again
  omnidet config show my_config.py --key model.backbone       one part of it
  omnidet config show my_config.py --origin                   with file and line of every value
  omnidet config check my_config.py                           unknown types and arguments, values of the wrong kind
  omnidet config check --zoo my/configs                       what of a folder is read and built, and which parts lack
  omnidet config upgrade old.py -o new.py                     a config of MMDetection 2.x as one of 3.x
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidet.cli.arguments import add_config, add_reading, read_config
from omnidet.errors import ConfigError, OmniDetError, did_you_mean, printable

if TYPE_CHECKING:
    from omnidet.config import Config, Problem

OUR_ZOO = 'the zoo that ships with OmniDet'
HELP = 'show a config as it resolves, check configs, or upgrade those of MMDetection 2.x'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title='actions', metavar='ACTION', dest='action', required=True)
    form = {'allow_abbrev': False}
    show_parser = actions.add_parser('show', help='print the resolved experiment', **form)    # type: ignore[arg-type]
    add_config(show_parser)
    show_parser.add_argument('--key', metavar='PATH', help='only this part, such as model.backbone or train_pipeline.2')
    show_parser.add_argument('--origin', action='store_true', help='with the file and line that each value came from')

    check_parser = actions.add_parser('check', help='hold types and arguments against the code', **form)    # type: ignore[arg-type]
    check_parser.add_argument('configs', metavar='CONFIG', nargs='*',
                              help='config files, or names of the zoo such as rtmdet/rtmdet_tiny')
    add_reading(check_parser)
    check_parser.add_argument('--zoo', nargs='?', const=OUR_ZOO, metavar='DIR',
                              help='every config below this folder, or of our zoo: what is read, checked and built, '
                                   'and the missing types by number of configs')
    check_parser.add_argument('--jobs', type=int, default=min(4, os.cpu_count() or 1), metavar='N',
                              help='with --zoo: how many processes (default: %(default)s)')
    check_parser.add_argument('--json', type=Path, metavar='FILE', help='with --zoo: write what was found as json too')

    upgrade_parser = actions.add_parser('upgrade', help='write a config of MMDetection 2.x in the form of 3.x', **form)    # type: ignore[arg-type]
    add_config(upgrade_parser)
    upgrade_parser.add_argument('-o', '--out', type=Path, metavar='FILE',
                                help='the file to write, or for a folder of configs the folder; the standard output by '
                                     'default')
    upgrade_parser.add_argument('--force', action='store_true', help='replace a file that exists')
    for action in (show_parser, check_parser, upgrade_parser):
        action.set_defaults(parser=action)


def run(args: argparse.Namespace) -> int:
    return {'show': _show, 'check': _check, 'upgrade': _upgrade}[args.action](args)


def _show(args: argparse.Namespace) -> int:
    cfg = read_config(args, check=False)
    return show(cfg, args.key, args.origin)


def _check(args: argparse.Namespace) -> int:
    if args.zoo is not None:
        return _check_zoo(args)
    if not args.configs:
        raise ConfigError('name a config to check, or a folder of them with --zoo')
    if args.json is not None:
        raise ConfigError('--json belongs to --zoo')
    if len(args.configs) == 1:
        return check(_read(args, args.configs[0]))
    statuses = []
    for name in args.configs:
        try:
            statuses.append(check(_read(args, name)))
        except OmniDetError as e:
            print(f'error: {printable(str(e))}')
            statuses.append(2)
    return max(statuses)


def _check_zoo(args: argparse.Namespace) -> int:
    from omnidet.cli.survey import check_zoo
    if args.configs:
        raise ConfigError(f'--zoo {args.zoo} and {args.configs[0]}: check a folder, or single configs')
    if args.cfg_options:
        raise ConfigError('--cfg-options change one config; --zoo checks many')
    if args.jobs < 1:
        raise ConfigError(f'--jobs {args.jobs}: at least one process is needed')
    from omnidet.config.resolve import ZOO
    folder = ZOO if args.zoo is OUR_ZOO else Path(args.zoo)
    return check_zoo(folder, args.jobs, args.trust, args.imports, args.json)


def _upgrade(args: argparse.Namespace) -> int:
    from omnidet.cli.upgrade import upgrade_file, upgrade_folder
    if Path(args.config).is_dir():
        return upgrade_folder(Path(args.config), args.out, args.cfg_options, args.force)
    return upgrade_file(read_config(args, tell=False, check=False), args.out, args.force)


def _read(args: argparse.Namespace, name: str) -> Config:
    return read_config(argparse.Namespace(**{**vars(args), 'config': name}), check=False)


def show(cfg: Config, key: str | None = None, origin: bool = False) -> int:
    """Print `cfg`, or the part of it at `key`, coloured where the output is a terminal.

    Raises:
        ConfigError: there is nothing at `key`.
    """
    from omnidet.config.dump import dump, dump_value
    if key is None:
        text = dump(cfg, origin)
    else:
        path, value = _at(cfg, key)
        text = dump_value(value, path, cfg if origin else None)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.syntax import Syntax
        code = Syntax(text.rstrip('\n'), 'python', theme='ansi_dark', background_color='default', word_wrap=True)
        Console().print(code)
    else:
        sys.stdout.write(text)
    return 0


def check(cfg: Config) -> int:
    """Print what is wrong in `cfg`; 1 where there is something."""
    from omnidet.config.check import problems
    found = problems(cfg)
    for problem in found:
        _print(problem)
    if found:
        print(f'{len(found)} problem{"s" * (len(found) > 1)} in {cfg.filename}')
        return 1
    from omnidet.config.nodes import walk
    parts = sum(isinstance(value, dict) and 'type' in value for _, value in walk(cfg))
    print(f'ok: {cfg.filename}, {parts} parts')
    return 0


def _print(problem: Problem) -> None:
    if problem.origin is not None:
        print(printable(str(problem.origin)))
    print(printable(f'  {problem.path}: {problem.message}'))


def _at(cfg: Config, key: str) -> tuple[tuple[str | int, ...], Any]:
    """The value at a dotted path, and the path as keys and indices."""
    path: tuple[str | int, ...] = ()
    value: Any = cfg
    for part in key.split('.'):
        around = '.'.join(map(str, path)) or 'the config'
        if isinstance(value, dict) and part in value:
            path, value = (*path, part), value[part]
        elif isinstance(value, (list, tuple)) and part.isdecimal() and int(part) < len(value):
            path, value = (*path, int(part)), value[int(part)]
        elif isinstance(value, dict):
            raise ConfigError(f'--key {key}: {around} has no {part!r}{did_you_mean(part, map(str, value))}; '
                              f'it has {", ".join(map(str, value))}')
        elif isinstance(value, (list, tuple)):
            raise ConfigError(f'--key {key}: {around} is a list of {len(value)}; {part!r} is none of its numbers')
        else:
            raise ConfigError(f'--key {key}: {around} is {value!r}; there is nothing in it')
    return path, value
