"""What an upgrade did, entry by entry, so that its user can be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Change(NamedTuple):
    """One entry of a config that has another place or form now.

    Attributes:
        old: where it was: `data.samples_per_gpu`.
        new: where it is: `train_dataloader.batch_size`; an empty string where nothing came of it.
        note: what else there is to know.
    """

    old: str
    new: str
    note: str = ''


class Changes:
    """The list that an upgrade writes; an entry that is noted again counts once."""

    def __init__(self) -> None:
        self._changes: dict[Change, None] = {}

    def note(self, old: str, new: str, note: str = '') -> None:
        self._changes[Change(old, new, note)] = None

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)
