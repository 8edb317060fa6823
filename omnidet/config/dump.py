"""A resolved config as Python text that loads again to an equal config, with the origins of its values if wanted."""

from __future__ import annotations

import keyword
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from omnidet.config.nodes import Config, Origin, Path, children, dotted, walk
from omnidet.errors import ConfigError

WIDTH = 110


def dump(cfg: Mapping[str, Any], origins: bool = False) -> str:
    """Write `cfg` as a Python config file.

    Args:
        cfg: a whole experiment.
        origins: put file and line of every value behind it, as a comment; `cfg` must be a `Config` for that.

    Returns:
        The text; `load_config` makes of it what `cfg` is.

    Raises:
        ConfigError: `cfg` holds something that cannot be written as data, or a top-level key that is no Python name.
    """
    known = cfg if origins and isinstance(cfg, Config) else None
    out: list[str] = []
    gap = False
    for key, value in cfg.items():
        if not _is_name(key):
            where = f'{cfg.filename}: ' if isinstance(cfg, Config) and cfg.filename else ''
            raise ConfigError(f'{where}the key {key!r} cannot be written to a Python file: it is no name')
        lines = list(_lines(f'{key} = ', value, '', 0, (key,), known))
        gap = bool(out) and (gap or len(lines) > 1)
        out += [''] * gap + lines
        gap = len(lines) > 1
    return '\n'.join(out) + '\n' if out else ''


def dump_value(value: Any, path: Path = (), cfg: Config | None = None) -> str:
    """One value of a config as Python text; with `cfg`, which has it at `path`, with the origins of what is in it."""
    return '\n'.join(_lines('', value, '', 0, path, cfg)) + '\n'


def _lines(head: str, value: Any, tail: str, indent: int, path: Path, known: Config | None) -> Iterator[str]:
    """`head`, the value, `tail`: in one line where it fits and comes from one place, else one line for each item."""
    flat = ' ' * indent + head + _flat(value, path) + tail
    short = len(flat) <= WIDTH or not isinstance(value, (dict, list, tuple)) or not value
    places = {_place(known.origin(p)) for p, v in walk(value, path) if not children(v)} if known is not None else set()
    if short and len(places) <= 1:
        place = ''.join(places)
        yield f'{flat}  # {place}' if place else flat
        return
    opening, closing = _brackets(value)
    yield ' ' * indent + head + opening
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    for i, (key, item) in enumerate(items):
        name = '' if not isinstance(value, dict) else f'{key}=' if closing == ')' else f'{_flat(key, path)}: '
        last = i == len(items) - 1 and not (isinstance(value, tuple) and len(value) == 1)
        end = closing + tail if last and known is None else ','
        yield from _lines(name, item, end, indent + 4, (*path, key), known)
    if known is not None or not items or not last:
        yield ' ' * indent + closing + tail


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        return ('dict(', ')') if all(map(_is_name, value)) else ('{', '}')
    return ('[', ']') if isinstance(value, list) else ('(', ')')


def _flat(value: Any, path: Path) -> str:
    """`value` in one line."""
    if isinstance(value, dict):
        if _brackets(value)[0] == 'dict(':
            return f'dict({", ".join(f"{k}={_flat(v, (*path, k))}" for k, v in value.items())})'
        return '{' + ', '.join(f'{_flat(k, path)}: {_flat(v, (*path, k))}' for k, v in value.items()) + '}'
    if isinstance(value, (list, tuple)):
        items = ', '.join(_flat(v, (*path, i)) for i, v in enumerate(value))
        return f'[{items}]' if isinstance(value, list) else f'({items}{"," * (len(value) == 1)})'
    if isinstance(value, (set, frozenset)):
        return '{' + ', '.join(sorted(_flat(v, path) for v in value)) + '}' if value else 'set()'
    if isinstance(value, str) and '{{' in value:    # in a config, braces in pairs stand for something else
        return '(' + ' + '.join(repr('{' * (i > 0) + part) for i, part in enumerate(value.split('{'))) + ')'
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if value is None or isinstance(value, (str, bool, int, float)):
        return repr(value)
    if isinstance(value, type) or callable(value):
        return repr(value.__name__)
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    raise ConfigError(f'{dotted(path)}: a {type(value).__name__} cannot be written to a config file')


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _place(origin: Origin | None) -> str:
    """`file:line`, the file relative to the working directory where it lies below it."""
    if origin is None:
        return ''
    path = FilePath(origin.file)
    if path.is_absolute() and path.is_relative_to(FilePath.cwd()):
        path = path.relative_to(FilePath.cwd())
    return str(Origin(str(path), origin.line))
