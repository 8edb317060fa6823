"""Tables that turn another project's names into ours, and what several projects' weights need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from omnidet.errors import CheckpointError

Table = Sequence[tuple[str, 'str | Callable[[re.Match[str]], str]']]
"""How a name begins, as a regular expression, and what this beginning becomes; the first that fits counts."""


def rename(state: Mapping[str, Tensor], table: Table) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under new names, and the names that are in no row of the table.

    Raises:
        CheckpointError: two names become one, and their tensors differ.
    """
    out: dict[str, Tensor] = {}
    unused = []
    for name, value in state.items():
        new = new_name(name, table)
        if new is None:
            unused.append(name)
        elif new in out and not torch.equal(out[new], value):
            raise CheckpointError(f'{name!r} and another weight both become {new!r}, but they differ')
        else:
            out[new] = value
    return out, unused


def new_name(name: str, table: Table) -> str | None:
    """What the first row that fits makes of a name; None where none does."""
    for pattern, replacement in table:
        new, count = re.subn(f'^(?:{pattern})', replacement, name)
        if count:
            return new
    return None


def inverted(table: Table) -> list[tuple[str, str]]:
    """The table that turns our names back into another project's.

    A row is turned around where its pattern is text with groups that are not nested, each used in the replacement; a
    group that is optional is written out. Rows with functions are left out: the tables that are inverted have them for
    older files alone.
    """
    out = []
    for pattern, new in table:
        if not isinstance(new, str):
            continue
        end = '$' if pattern.endswith('$') else ''
        parts = re.split(r'(\([^()]*\)\??)', pattern.removesuffix('$'))    # text, group, text, ...
        used = re.findall(r'\\(\d)', new)
        theirs = ''.join(_text(part) if i % 2 == 0 else f'\\{used.index(n) + 1}' if (n := str(i // 2 + 1)) in used
                         else _text(part.rstrip('?')[1:-1]) for i, part in enumerate(parts))
        ours = ''.join(re.escape(part) if i % 2 == 0 else parts[2 * int(part) - 1]
                       for i, part in enumerate(re.split(r'\\(\d)', new)))
        out.append((ours + end, theirs))
    return out


def _text(pattern: str) -> str:
    """What a pattern without groups says."""
    return re.sub(r'\\(.)', r'\1', pattern)


def join_attention(state: dict[str, Tensor]) -> None:
    """Make `in_proj_*` of each `q_proj.*`, `k_proj.*` and `v_proj.*`, in place.

    Raises:
        CheckpointError: one of the three is missing.
    """
    for name in [n for n in state if '.q_proj.' in n]:
        parts = [name.replace('.q_proj.', f'.{x}_proj.') for x in 'qkv']
        if missing := [p for p in parts if p not in state]:
            raise CheckpointError(f'{name} is there, but not {", ".join(missing)}')
        state[name.replace('.q_proj.', '.in_proj_')] = torch.cat([state.pop(p) for p in parts])


def keep_rows(state: dict[str, Tensor], layer: str, rows: Iterable[int]) -> None:
    """Keep some outputs of a linear layer, in the order of `rows`, in place.

    Raises:
        CheckpointError: the layer has fewer outputs.
    """
    wanted = list(rows)
    for name in (f'{layer}.weight', f'{layer}.bias'):
        if name in state:
            if outside := sorted({r for r in wanted if not 0 <= r < len(state[name])}):
                raise CheckpointError(f'{name} has {len(state[name])} classes, none of the numbers {outside}')
            state[name] = state[name][wanted]
