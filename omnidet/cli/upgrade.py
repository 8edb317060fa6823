"""`omnidet config upgrade`: configs of MMDetection 2.x written in the form of 3.x, with a list of what was changed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omnidet import __version__
from omnidet.errors import ConfigError, OmniDetError, printable

if TYPE_CHECKING:
    from omnidet.config import Config
    from omnidet.config.upgrade import Change

WIDTH = 140    # of a table in a file or a pipe

def upgrade_file(cfg: Config, out: Path | None, force: bool = False) -> int:
    """Write `cfg`, as `load_config` upgraded it, to `out` or the standard output, and print what was changed.

    Raises:
        ConfigError: `out` exists already and `force` is not set.
    """
    if not cfg.changes:
        print(f'{cfg.filename} has the form of MMDetection 3.x: there is nothing to upgrade', file=sys.stderr)
        return 0
    if out is None:
        sys.stdout.write(upgraded_text(cfg))
    else:
        _write(cfg, out, force)
    _print_changes(cfg.changes, to_stderr=out is None)
    if out is not None:
        print(f'{out}: the whole experiment in one file, {_entries(len(cfg.changes))} changed')
    return 0


def upgrade_folder(folder: Path, out: Path | None, options: Sequence[str], force: bool = False) -> int:
    """Upgrade every config of MMDetection 2.x below `folder` to a file of the same name below `out`.

    Configs of the 3.x form are left out, and so are folders called `_base_`: what is written inherits from nothing. A
    file that cannot be upgraded is told, and does not keep the others from it.

    Returns:
        1 where one cannot be upgraded.

    Raises:
        ConfigError: there is no `out`, or no config in `folder`.
    """
    from omnidet.config import load_config
    from omnidet.config.survey import configs_below
    if out is None:
        raise ConfigError(f'{folder} is a folder: name one to write to, with -o')
    new, failed = 0, 0
    files = configs_below(folder)
    for file in files:
        target = out / file.relative_to(folder)
        try:
            cfg = load_config(file, options)
            if cfg.changes:
                _write(cfg, target, force)
                print(f'{target}: {_entries(len(cfg.changes))} changed')
                new += 1
        except OmniDetError as e:
            failed += 1
            print(f'error: {printable(str(e))}', file=sys.stderr)
    print(f'{new} of {len(files)} configs upgraded'
          + (f', {failed} could not be' if failed else '')
          + (f'; {rest} had the form of MMDetection 3.x' if (rest := len(files) - new - failed) else ''))
    return int(failed > 0)


def upgraded_text(cfg: Config) -> str:
    """The whole experiment as a file, with a head that says what it was made of."""
    from omnidet.config import dump
    source = ' '.join(str(cfg.filename).split())    # a line break in a name would end the comment
    return f'# Written by `omnidet config upgrade` (OmniDet {__version__}) from {source}\n\n{dump(cfg)}'


def _write(cfg: Config, out: Path, force: bool) -> None:
    from omnidet.files import written_whole
    if out.is_dir():
        raise ConfigError(f'{out} is a folder; name a file to write')
    if out.exists() and not force:
        raise ConfigError(f'{out} exists already; choose another name, or --force to replace it')
    text = upgraded_text(cfg)
    with written_whole(out) as path:
        path.write_text(text, encoding='utf-8')


def _print_changes(changes: Iterable[Change], to_stderr: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ('2.x', '3.x', 'note'):
        table.add_column(column, overflow='fold')
    for change in changes:
        table.add_row(*[Text(printable(t)) for t in (change.old, change.new or '(nothing)', change.note)])
    console = Console(stderr=to_stderr, highlight=False)
    console.print(table, width=None if console.is_terminal else WIDTH)


def _entries(count: int) -> str:
    return f'{count} entr{"y" if count == 1 else "ies"}'
