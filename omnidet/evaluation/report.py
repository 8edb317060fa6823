"""Figures as tables of text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def to_text(table: Table, width: int = 120) -> str:
    """A rich table as plain text without colours, for logs and files."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(table)
    return '\n'.join(line.rstrip() for line in out.getvalue().splitlines()).strip('\n')


def figure_table(title: str, figures: Mapping[str, float], columns: int = 6) -> str:
    """Named figures in rows of `columns`, each name above its value; `-` where there is nothing to measure."""
    table = _table(title)
    for _ in range(min(columns, len(figures))):
        table.add_column(justify='right')
    names, values = list(figures), [number(v) for v in figures.values()]
    for i in range(0, len(names), columns):
        table.add_row(*names[i:i + columns], style='dim')
        table.add_row(*values[i:i + columns], end_section=True)
    table.show_header = False
    return to_text(table)


def class_table(title: str, rows: Sequence[Sequence[Any]],
                columns: Sequence[str] = ('objects', 'AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')) -> str:
    """One line per class: its name, then what `columns` name; whole numbers are counts, others figures."""
    table = _table(title)
    for name in ('class', *columns):
        table.add_column(name, justify='left' if name == 'class' else 'right')
    for name, *values in rows:
        table.add_row(str(name), *(str(v) if isinstance(v, int) else number(v) for v in values))
    return to_text(table)


def number(value: float) -> str:
    """Three digits, or `-` for COCO's -1: nothing there to measure."""
    return '-' if value < 0 else f'{value:.3f}'


def _table(title: str) -> Table:
    return Table(title=title, title_justify='left', title_style='', box=box.SIMPLE_HEAD, padding=(0, 1))
