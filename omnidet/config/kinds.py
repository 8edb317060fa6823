"""Whether a value of a config can be what an annotation asks for. Where the annotation does not tell, it can."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal, Union, get_args, get_origin

_SCALARS = (bool, int, float, str, type(None))


def fits(value: Any, hint: Any) -> bool:
    """False only where `value` cannot be meant for an argument with the annotation `hint`.

    An integer is a float too, lists and tuples are one, and a dict with a `type` is whatever it builds.

    >>> fits(3, float), fits('3', int), fits([1, 2], tuple[int, int]), fits(None, int | None)
    (True, False, True, True)
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, a) for a in args)
    if origin is Literal:
        return value in args if isinstance(value, _SCALARS) else False
    if hint is None or hint is type(None):
        return value is None
    if hint in (bool, int, float, str):
        return _is_scalar(value, hint)
    kind = origin or hint
    if not isinstance(kind, type):
        return True    # Any, a type variable, an annotation that was not resolved
    if kind in (Iterable, Set, set, frozenset) or issubclass(kind, Sequence):
        return _is_sequence(value, kind, args)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    return True    # a class: the value may build one, or be the text that it is made from


def _is_scalar(value: Any, kind: type) -> bool:
    if kind is bool:
        return isinstance(value, bool) or value in (0, 1)
    if kind is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if kind is float:
        return isinstance(value, (int, float))
    return isinstance(value, str)


def _is_sequence(value: Any, kind: Any, args: tuple[Any, ...]) -> bool:
    if isinstance(value, str):
        return not args or str in args or Any in args
    if not isinstance(value, (list, tuple, set, frozenset)):
        return kind is Iterable and isinstance(value, Mapping)
    if kind is tuple and args and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(fits(v, a) for v, a in zip(value, args, strict=True))
    return not args or all(fits(v, args[0]) for v in value)


def describe(value: Any) -> str:
    """What a message calls a value that does not fit."""
    text = repr(value)
    return f'{text if len(text) <= 60 else text[:57] + "..."} ({type(value).__name__})'
