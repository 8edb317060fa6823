"""Look at a config as it resolves, and hold it against the code.

  omnidet config show rtmdet/rtmdet_tiny                      the whole experiment as one file that loads again
  omnidet config show my_config.py --key model.backbone       one part of it
  omnidet config show my_config.py --origin                   with file and line of every value
  omnidet config check my_config.py                           unknown types and arguments, values of the wrong kind
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from omnidet.cli.arguments import add_config, read_config
from omnidet.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from omnidet.config import Config, Problem

HELP = 'show a config as it resolves, or check it'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title='actions', metavar='ACTION', dest='action', required=True)
    form = {'allow_abbrev': False}
    show_parser = actions.add_parser('show', help='print the resolved experiment', **form)    # type: ignore[arg-type]
    add_config(show_parser)
    show_parser.add_argument('--key', metavar='PATH', help='only this part, such as model.backbone or train_pipeline.2')
    show_parser.add_argument('--origin', action='store_true', help='with the file and line that each value came from')
    check_parser = actions.add_parser('check', help='hold types and arguments against the code', **form)    # type: ignore[arg-type]
    add_config(check_parser)
    for action in (show_parser, check_parser):
        action.set_defaults(parser=action)


def run(args: argparse.Namespace) -> int:
    cfg = read_config(args)
    return show(cfg, args.key, args.origin) if args.action == 'show' else check(cfg)


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
        print(f'{problem.origin}')
    print(f'  {problem.path}: {problem.message}')


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
