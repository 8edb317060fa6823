"""JSON and YAML configs, with the line of every key."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnidet.config.meter import Meter
from omnidet.config.nodes import Origin, Origins
from omnidet.config.operations import hashable
from omnidet.errors import ConfigError

_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def parse_json(text: str, file: Path, origins: Origins, meter: Meter) -> dict[str, Any]:
    """The dict that a JSON text describes.

    Raises:
        ConfigError: it is no JSON, or no dict.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_twins)
    except json.JSONDecodeError as e:
        raise ConfigError(f'{file}:{e.lineno}: this is no JSON: {e.msg}') from None
    except (RecursionError, ValueError) as e:
        raise ConfigError(f'{file}: this is no JSON, or is nested too deep: {e}') from None
    meter.walk(value)
    _mark_json(value, text, file, origins)
    return _whole(value, file)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f'the key {next(k for k in keys if keys.count(k) > 1)!r} occurs twice')
    return out


def _mark_json(root: Any, text: str, file: Path, origins: Origins) -> None:
    """Note the line of every key: follow the values along the tokens of the text."""
    ends = [m.start() for m in re.finditer('\n', text)]
    tokens = ((m[0], Origin(str(file), bisect_left(ends, m.start()) + 1)) for m in _JSON_TOKEN.finditer(text))

    def visit(value: Any, opening: str, origin: Origin) -> None:
        if opening not in ('{', '['):
            return
        origins.born(value, origin)
        count = 0
        for token, here in tokens:
            if token in ('}', ']'):
                return
            if token == ',':
                continue
            if opening == '{':
                key = json.loads(token)
                origins.mark(value, key, here)
                next(tokens)    # the colon
                visit(value[key], *next(tokens))
            else:
                visit(value[count], token, here)
            count += 1
    visit(root, *next(tokens))


def parse_yaml(text: str, file: Path, origins: Origins, meter: Meter) -> dict[str, Any]:
    """The dict that a YAML text describes; tuples may be written `!!python/tuple [...]`.

    Raises:
        ConfigError: it is no YAML, or no dict.
    """
    import yaml

    def place(node: Any) -> Origin:
        return Origin(str(file), node.start_mark.line + 1)

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)    # type: ignore[no-untyped-call]
            meter.charge(len(node.value))    # `<<: [*a, *a]` doubles

    def dict_of(loader: Any, node: Any) -> Iterator[dict[Any, Any]]:
        out = origins.born({}, place(node))
        yield out    # before it is filled, so that it may contain itself
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = hashable(loader.construct_object(key_node, deep=True))
            out[key] = loader.construct_object(value_node)
            origins.mark(out, key, place(key_node))

    def list_of(loader: Any, node: Any) -> Iterator[list[Any]]:
        out = origins.born([], place(node))
        yield out
        out.extend(loader.construct_sequence(node))

    def tuple_of(loader: Any, node: Any) -> tuple[Any, ...]:
        return tuple(loader.construct_sequence(node, deep=True))

    def set_of(loader: Any, node: Any) -> set[Any]:
        return {hashable(loader.construct_object(key, deep=True)) for key, _ in node.value}

    Loader.add_constructor('tag:yaml.org,2002:map', dict_of)
    Loader.add_constructor('tag:yaml.org,2002:set', set_of)
    Loader.add_constructor('tag:yaml.org,2002:seq', list_of)
    Loader.add_constructor('tag:yaml.org,2002:python/tuple', tuple_of)
    try:
        value = yaml.load(text, Loader)
    except yaml.YAMLError as e:
        mark = getattr(e, 'problem_mark', None)
        where = f'{file}:{mark.line + 1}' if mark else str(file)
        raise ConfigError(f'{where}: this is no YAML: {getattr(e, "problem", None) or e}') from None
    except (RecursionError, ValueError, TypeError, AttributeError, LookupError) as e:
        raise ConfigError(f'{file}: this is no YAML, or is nested too deep: {e}') from None
    meter.walk(value)
    return _whole(value, file)


def _whole(value: Any, file: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f'{file} holds a {type(value).__name__}; a config is a dict')
    return value
