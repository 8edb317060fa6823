"""Write compat.md: what the names of OpenMMLab's packages lead to, read from the table of `omnidet.compat`.

    python docs/compat.py
"""

from __future__ import annotations

from pathlib import Path

from omnidet.compat.table import INSTEAD, TABLE

PAGE = Path(__file__).with_name('compat.md')
MARKS = '<!-- written by docs/compat.py: {} -->', '<!-- end -->'


def led_to() -> str:
    """Every module's names, and where they lead."""
    lines = ['| module | names | lead to |', '| --- | --- | --- |']
    for module, row in TABLE.items():
        homes: dict[str, list[str]] = {}
        for name, target in row.items():
            home, _, found = target.partition(':')
            homes.setdefault(home, []).append(name if name == found else f'{name} ({found})')
        for i, (home, names) in enumerate(homes.items()):
            lines.append(f'| {f"`{module}`" if i == 0 else ""} | {", ".join(names)} | `{home}` |')
        if not row:
            lines.append(f'| `{module}` | every registered part | the registries |')
    return '\n'.join(lines)


def instead() -> str:
    """The names without a counterpart, by what to use in their place."""
    notes: dict[str, list[str]] = {}
    for name, note in INSTEAD.items():
        notes.setdefault(note, []).append(f'`{name}`')
    lines = ['| not here | in its place |', '| --- | --- |']
    return '\n'.join([*lines, *(f'| {", ".join(names)} | {note} |' for note, names in notes.items())])


def put(text: str, what: str, table: str) -> str:
    """`text` with what stands between the marks of `what` replaced."""
    start = MARKS[0].format(what)
    before, _, rest = text.partition(start)
    return f'{before}{start}\n\n{table}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}'


def main() -> None:
    text = PAGE.read_text(encoding='utf-8')
    for what, table in (('names', led_to()), ('instead', instead())):
        text = put(text, what, table)
    PAGE.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
