"""What a pickle that is not trusted may ask for: work and memory in proportion to its size.

A few bytes of a pickle can name what takes for ever to hash, compare or print: tuples that contain one tuple twice, and
that one another; numbers that all have the same hash; lists in themselves.
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

MOST_NESTED = 200       # dicts, lists and objects in one another
MOST_ITEMS = 20_000_000    # in all, where what is held twice counts twice
MOST_BITS = 60          # of a number that is a key: larger ones can be made to have the same hash
HEAVIEST_KEY = 100      # items of a tuple that is a key, with those of tuples in it
MOST_TUPLE_KEYS = 1000


class Bounds:
    """What one reading of a pickle has come to."""

    def __init__(self) -> None:
        # by the id of a tuple, which is held too, so that no other takes its id
        self._weights: dict[int, tuple[tuple[Any, ...], int]] = {}
        self._tuple_keys = 0

    def weigh(self, value: Any) -> None:
        """Note how many items a tuple that was just made has, with those of the tuples in it."""
        if type(value) is tuple:
            self._weights[id(value)] = value, 1 + sum(map(self._weight, value))

    def _weight(self, value: Any) -> int:
        if type(value) is not tuple:
            return 1
        return self._weights.get(id(value), (value, 1 + len(value)))[1]

    def keys(self, keys: Iterable[Any]) -> None:
        """Hold what is to become keys of a dict, or items of a set, against the bounds.

        Raises:
            pickle.UnpicklingError: one of them is beyond.
        """
        for key in keys:
            if isinstance(key, int) and key.bit_length() > MOST_BITS:
                raise pickle.UnpicklingError(f'a key is a number of {key.bit_length()} bits')
            if isinstance(key, tuple):
                self._tuple_keys += 1
                if self._weight(key) > HEAVIEST_KEY or self._tuple_keys > MOST_TUPLE_KEYS:
                    raise pickle.UnpicklingError('tuples are keys, which are too large or too many')

    def call(self, function: Any, arguments: Sequence[Any]) -> None:
        """Hold a call that a pickle asks for against the bounds.

        Raises:
            pickle.UnpicklingError: it would take too much.
        """
        if function is str and arguments and not isinstance(arguments[0], (str, bytes, int, float)):
            raise pickle.UnpicklingError(f'the text of a {type(arguments[0]).__name__} is wanted')
        if isinstance(function, type) and issubclass(function, (dict, set, frozenset)):
            for items in arguments:
                if isinstance(items, (list, tuple, set, frozenset, collections.deque)):
                    self.keys(items)
                    for pair in items:
                        self.keys(pair[:1] if isinstance(pair, (list, tuple)) else ())


def check_nesting(content: Any, inert: type) -> None:
    """Refuse what would take for ever to copy or print.

    Args:
        content: what was read.
        inert: the class of stand-ins, whose attributes are looked into.

    Raises:
        pickle.UnpicklingError: dicts, lists or objects contain themselves, are nested too deep, or hold too much.
    """
    known: dict[int, tuple[int, int] | None] = {}    # (items, height); None while it is looked into

    def measure(value: Any, depth: int) -> tuple[int, int]:
        if isinstance(value, dict):
            items: Iterable[Any] = value.values()
        elif isinstance(value, (list, tuple, collections.deque)):
            items = value
        elif isinstance(value, inert):
            items = vars(value).values()
        else:
            return 1, 0
        if id(value) not in known:
            if depth > MOST_NESTED:
                raise pickle.UnpicklingError(f'it holds dicts or lists more than {MOST_NESTED} deep')
            known[id(value)] = None
            measured = [measure(v, depth + 1) for v in items]
            known[id(value)] = 1 + sum(n for n, _ in measured), 1 + max((h for _, h in measured), default=0)
        found = known[id(value)]
        if found is None:
            raise pickle.UnpicklingError('it holds a dict or list that contains itself')
        if found[0] > MOST_ITEMS or depth + found[1] > MOST_NESTED:
            raise pickle.UnpicklingError(f'it holds dicts or lists of more than {MOST_ITEMS} items, or more than '
                                         f'{MOST_NESTED} deep')
        return found
    measure(content, 0)
