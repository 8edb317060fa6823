"""`omnidet config check --zoo`: what is read, checked and built of a folder of configs, as tables and as json."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnidet import __version__
from omnidet.cli.arguments import import_user_module
from omnidet.errors import printable

if TYPE_CHECKING:
    from omnidet.config.survey import Finding

WIDTH = 140    # of tables in a file or a pipe
SHOWN = 40
"""Rows of a table of reasons or parts; --json has them all."""


def check_zoo(folder: Path, jobs: int, trust: bool, imports: Sequence[str], out: Path | None) -> int:
    """Survey the configs below `folder`, print what was found, and write it to `out`; 1 where one is not read.

    Raises:
        ConfigError: there is no config.
    """
    from rich.console import Console
    from rich.progress import track

    from omnidet.config.survey import configs_below, survey
    for name in imports:
        import_user_module(name)    # an error in it is told here, and not by a process that ends
    files = configs_below(folder)
    prepare = partial(_import_all, tuple(imports)) if imports else None
    found = sorted(track(survey(files, folder, trust, jobs, prepare), 'configs', len(files),
                         console=Console(stderr=True), transient=True), key=lambda f: f.name)
    print_survey(folder, found)
    if out is not None:
        from omnidet.files import written_whole
        with written_whole(out) as path:
            path.write_text(json.dumps(to_json(folder, found), indent=1) + '\n', encoding='utf-8')
    return int(not all(f.parses for f in found))


def _import_all(names: Sequence[str]) -> None:
    for name in names:
        import_user_module(name)


def print_survey(folder: Path, found: Sequence[Finding]) -> None:
    """Print the families, the reasons why configs are not read or built, and the parts that are missing."""
    from rich.console import Console
    from rich.text import Text
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(Text(printable(str(folder))))
    console.print(_families(found))
    parts = sum(f.builds is None for f in found)
    console.print('parse: read, with what they inherit. check: no unknown part or argument. build: the model is made, '
                  'without memory for its weights. 2.x: written for MMDetection 2.x.'
                  + (f' {parts} without a model count as built.' if parts else ''))
    for table in (_reasons(folder, found), _missing(found)):
        if table is not None:
            console.print()
            console.print(table)


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table
    table = Table(title=title or None, title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column in ('configs', 'parse', 'check', 'build', '2.x')
        table.add_column(column, justify='right' if number else 'left', overflow='fold', no_wrap=number)
    return table


def _families(found: Sequence[Finding]) -> Any:
    from rich.text import Text
    families: dict[str, list[Finding]] = defaultdict(list)
    for f in found:
        families[f.name.rpartition('/')[0].partition('/')[0] or '.'].append(f)
    table = _table('', 'family', 'configs', 'parse', 'check', 'build', '2.x')
    for name, members in (*families.items(), ('all', found)):
        if name == 'all':
            table.add_section()
        counts = (len(members), sum(f.parses for f in members), sum(f.parses and not f.problems for f in members),
                  sum(f.builds is not False for f in members), sum(f.changes > 0 for f in members))
        style = 'green' if min(counts[:4]) == counts[0] else 'red' if counts[1] < counts[0] else 'yellow'
        table.add_row(Text(printable(name), style), *map(str, counts))
    return table


def _reasons(folder: Path, found: Sequence[Finding]) -> Any:
    """The errors, each with the configs that end in it; those that are not read come first."""
    from rich.text import Text
    groups: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for f in found:
        if f.error:
            reason = f.error.replace(f'{folder}{os.sep}', '').removeprefix(f'{f.name}: ')
            groups[f.parses, reason].append(f.name)
    if not groups:
        return None
    table = _table('not read, or not built', 'reason', 'configs', 'such as')
    rows = sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1])))
    for (parses, reason), names in rows[:SHOWN]:
        table.add_row(Text(printable(reason), '' if parses else 'red'), str(len(names)), Text(printable(names[0])))
    if len(rows) > SHOWN:
        table.add_row(f'... and {len(rows) - SHOWN} reasons more', str(sum(len(n) for _, n in rows[SHOWN:])), '')
    return table


def _missing(found: Sequence[Finding]) -> Any:
    from rich.text import Text

    from omnidet.config.survey import missing_parts
    parts = missing_parts(found)
    if not parts:
        return None
    table = _table('missing parts', 'type', 'configs', 'such as')
    for name, count, example in parts[:SHOWN]:
        table.add_row(Text(printable(name)), str(count), Text(printable(example)))
    if len(parts) > SHOWN:
        table.add_row(f'... and {len(parts) - SHOWN} parts more', '', '')
    return table


def to_json(folder: Path, found: Sequence[Finding]) -> dict[str, Any]:
    """A survey for machines: totals, the missing parts with their numbers of configs, and every config."""
    from omnidet.config.survey import missing_parts
    return {
        'omnidet_version': __version__, 'folder': str(folder), 'configs': len(found),
        'parse': sum(f.parses for f in found), 'check': sum(f.parses and not f.problems for f in found),
        'build': sum(f.builds is True for f in found), 'without_model': sum(f.builds is None for f in found),
        'missing': {name: count for name, count, _ in missing_parts(found)},
        'findings': [{'name': f.name, 'parses': f.parses, 'builds': f.builds, 'error': f.error,
                      'problems': list(f.problems), 'missing': list(f.missing), 'changes': f.changes} for f in found]}
