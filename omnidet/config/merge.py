"""How a config inherits: dicts are merged key by key, everything else replaces what was there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnidet.config.meter import Meter, Refusal
from omnidet.config.nodes import ConfigDict, Origins, Path, dotted
from omnidet.config.operations import Symbol, kind_of

DELETE = '_delete_'


def own(value: Any, origins: Origins, meter: Meter) -> Any:
    """A deep copy of `value` as data: `ConfigDict`s, lists and tuples that share nothing, imported names as texts.

    Raises:
        Refusal: `value` contains itself, is too large, or holds something that is no data.
    """
    meter.walk(value)
    return _own(value, origins)


def _own(value: Any, origins: Origins) -> Any:
    if isinstance(value, Symbol):
        return value.name
    new: Any
    if isinstance(value, dict):
        new = ConfigDict()
        for k, v in value.items():
            dict.__setitem__(new, k, _own(v, origins))
    elif isinstance(value, range):
        new = list(value)
    elif isinstance(value, (list, tuple)):
        new = type(value)(_own(v, origins) for v in value)
    elif value is None or isinstance(value, (str, int, float, set, frozenset, type)) or callable(value):
        return value
    else:
        raise Refusal(f'a {type(value).__name__} is no data')
    origins.inherit(new, value)
    return new


def combine(child: Mapping[str, Any], base: ConfigDict, origins: Origins, path: Path = ()) -> None:
    """Merge `child` into `base`, in place: how a file changes the one that it inherits from.

    A dict of `child` that meets a dict of `base` is merged with it, or replaces it where it holds `_delete_=True`. A
    dict whose keys are numbers changes single items of a list. `_delete_` is kept where there was nothing to delete, as
    MMDetection's reader keeps it.

    Args:
        child: what `own` made; it becomes part of `base`.
        base: what is inherited.
        origins: the marks of both.
        path: where `base` lies, for messages.

    Raises:
        Refusal: a dict meets something that is none.
    """
    for key, value in child.items():
        old = base.get(key)
        if not isinstance(value, dict) or key not in base or value.pop(DELETE, False) or old is None:
            set_item(base, key, value, origins, child)
        elif isinstance(old, ConfigDict):
            combine(value, old, origins, (*path, key))
        elif isinstance(old, list) and value and all(str(k).isdecimal() for k in value):
            _combine_list(value, old, origins, (*path, key))
        else:
            origin = origins.of(child, key)
            raise Refusal(f'{dotted((*path, key))} is a dict here, but a {kind_of(old)} in what it inherits from; '
                          f'to replace it, put {DELETE}=True into the dict', origin.line if origin else 0)


def _combine_list(child: Mapping[str, Any], base: list[Any], origins: Origins, path: Path) -> None:
    for key, value in child.items():
        index = int(key)
        if index >= len(base):
            raise Refusal(f'{dotted(path)} has no item {index}: it has {len(base)}')
        old = base[index]
        if isinstance(value, dict) and isinstance(old, ConfigDict) and not value.pop(DELETE, False):
            combine(value, old, origins, (*path, index))
        else:
            base[index] = value


def update(target: dict[Any, Any], other: Mapping[Any, Any], origins: Origins) -> None:
    """`target.update(other)`: deep for a `ConfigDict`, as in MMDetection, and flat for a plain dict."""
    for key, value in other.items():
        old = target.get(key)
        deep = isinstance(target, ConfigDict) and isinstance(value, dict)
        if deep and isinstance(old, ConfigDict) and not value.pop(DELETE, False):
            update(old, value, origins)
        else:
            set_item(target, key, value, origins, other)


def set_item(target: dict[Any, Any], key: Any, value: Any, origins: Origins, source: Any = None) -> None:
    """`target[key] = value`; where it was written is taken over from `source[key]`."""
    dict.__setitem__(target, key, value)
    origin = origins.of(source, key) if isinstance(source, dict) else None
    if origin is not None:
        origins.mark(target, key, origin)
