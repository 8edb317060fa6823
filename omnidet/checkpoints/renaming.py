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
        new = _renamed(name, table)
        if new is None:
            unused.append(name)
        elif new in out and not torch.equal(out[new], value):
            raise CheckpointError(f'{name!r} and another weight both become {new!r}, but they differ')
        else:
            out[new] = value
    return out, unused


def _renamed(name: str, table: Table) -> str | None:
    for pattern, replacement in table:
        new, count = re.subn(f'^(?:{pattern})', replacement, name)
        if count:
            return new
    return None


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
