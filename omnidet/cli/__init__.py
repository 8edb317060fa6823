"""The command `omnidet`: one module for each of its commands, imported when that command is asked for.

A command's module has `HELP` (one line), `add_arguments(parser)` and `run(args) -> int | None`, and imports what is
heavy inside `run`: `omnidet --help` answers before torch could have been loaded.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import NoReturn

from omnidet import __version__
from omnidet.errors import OmniDetError, did_you_mean, printable

COMMANDS = ('demo', 'train', 'test', 'predict', 'analyze', 'config', 'convert', 'checkpoint')

USER_ERROR, BUG, INTERRUPTED, CLOSED_PIPE = 2, 1, 130, 141

_NOT_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
"""What the operating system refuses, and what only the user can mend: a full disk, a folder that is not theirs."""

_EXAMPLES = """\
a first look, without any download:
  omnidet demo

your own images:
  omnidet convert voc my/voc --split train --to coco --out my/coco/annotations/train.json
  omnidet config check my_config.py
  omnidet train my_config.py
  omnidet test my_config.py work_dirs/my_config/epoch_300.pth
  omnidet predict my_config.py work_dirs/my_config/epoch_300.pth my/images

`omnidet COMMAND --help` says what a command takes.
"""


class Parser(argparse.ArgumentParser):
    """argparse, with the nearest match for a mistyped argument and the program's own form of error."""

    def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        """As argparse does it; an argument that is not known is answered with the nearest that is."""
        known, rest = self.parse_known_args(args, namespace)
        if rest:
            self.unknown(known, rest)
        return known

    def unknown(self, known: argparse.Namespace, rest: Sequence[str]) -> NoReturn:
        """Say which of the arguments `rest` is not known, and what stands near it."""
        parser: Parser = getattr(known, 'parser', self)
        wrong = next((a for a in rest if a.startswith('-')), rest[0])
        name = wrong.partition('=')[0]
        if wrong.startswith('-'):
            parser.error(f'there is no argument {name}{did_you_mean(name, parser.option_names())}')
        parser.error(f'one argument too many: {wrong!r}')

    def option_names(self) -> Iterable[str]:
        return self._option_string_actions

    def error(self, message: str) -> NoReturn:
        print_error(f'{message}\n{self.format_usage().strip()}\n`{self.prog} --help` says more')
        raise SystemExit(USER_ERROR)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command line without the program's name; that of the process by default.

    Returns:
        the exit status: 0, or 2 for an error of the user's, 1 for a bug of ours, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv) or ['--help']
    show_traceback = '--traceback' in argv
    try:
        args = parse([a for a in argv if a != '--traceback'])    # it may stand anywhere
        status = args.run(args) or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader (`| head`) has gone; what is still buffered must not raise again when Python closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as e:
        if show_traceback:
            traceback.print_exc()
        return report(e)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command line; `.run` is the command's function.

    Raises:
        SystemExit: after `--help`, `--version`, or an error in the arguments.
    """
    parser = Parser(prog='omnidet', description='Object detection and segmentation: one config file is one experiment.',
                    epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument('--version', action='version', version=f'omnidet {__version__}')
    parser.add_argument('--traceback', action='store_true', 
                        help='show where in the program an error arose; may follow any command')
    command = next((a for a in argv if not a.startswith('-')), None)
    if command is not None and command not in COMMANDS:
        parser.error(f'there is no command {command!r}{did_you_mean(command, COMMANDS)}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name in COMMANDS if command is None else (command,):
        module = importlib.import_module(f'omnidet.cli.{name}')
        child = commands.add_parser(name, help=module.HELP, description=module.__doc__, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
        child.set_defaults(run=module.run, parser=child)
        module.add_arguments(child)
    return parser.parse_args(argv)


def report(e: Exception) -> int:
    """Print what went wrong, in the words that fit the kind of error, and give the exit status."""
    if isinstance(e, OmniDetError):
        print_error(str(e))
    elif isinstance(e, OSError) and e.errno in _NOT_OURS:
        print_error(f'{e.strerror}: {e.filename}' if e.filename else str(e.strerror))
    elif type(e).__name__ == 'OutOfMemoryError':
        print_error('the device has too little memory for this; a smaller batch helps '
                    '(--cfg-options train_dataloader.batch_size=2), so does --amp')
    else:
        lines = str(e).strip().splitlines()
        print_error(f'{type(e).__name__}: {lines[0] if lines else "no message"} (this is a bug in OmniDet: '
                    'please report it with what --traceback prints)')
        return BUG
    return USER_ERROR


def print_error(message: str) -> None:
    print(f'error: {printable(message)}', file=sys.stderr)
