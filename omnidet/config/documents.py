"""JSON and YAML configs, with the line of every key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from omnidet.config.meter import Meter
from omnidet.config.nodes import Origin, Origins
from omnidet.errors import ConfigError

_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def parse_json(text: str, file: Path, origins: Origins, meter: Meter) -> dict[str, Any]:
    """The dict that a JSON text describes.

    Raises:
        ConfigError: it is no JSON, or no dict.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as e:
        raise ConfigError(f'{file}:{e.lineno}: this is no JSON: {e.msg}') from None
    except (RecursionError, ValueError) as e:
        raise ConfigError(f'{file}: this is no JSON, or is nested too deep: {e}') from None
    meter.walk(value)
    starts = [m.start() for m in re.finditer('\n', text)]
    tokens = ((m[0], m.start()) for m in _JSON_TOKEN.finditer(text))

    def line(position: int) -> Origin:
        from bisect import bisect_left
        return Origin(str(file), bisect_left(starts, position) + 1)

    def visit(value: Any) -> None:
        """Follow `value` along its tokens, noting the line of each key."""
        _, position = next(tokens)
        if isinstance(value, (dict, list)):
            origins.born(value, line(position))
            if not value:
                next(tokens)
        if isinstance(value, dict):
            for key, item in value.items():
                _, position = next(tokens)
                origins.mark(value, key, line(position))
                next(tokens)
                visit(item)
                next(tokens)
        elif isinstance(value, list):
            for item in value:
                visit(item)
                next(tokens)
    visit(value)
    return _whole(value, file)


def parse_yaml(text: str, file: Path, origins: Origins, meter: Meter) -> dict[str, Any]:
    """The dict that a YAML text describes; tuples may be written `!!python/tuple [...]`.

    Raises:
        ConfigError: it is no YAML, or no dict.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            meter.charge(len(node.value))
            out = super().construct_mapping(node, deep)
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                origins.mark(out, key, Origin(str(file), key_node.start_mark.line + 1))
            return out

    def tuple_of(loader: Any, node: Any) -> tuple[Any, ...]:
        return tuple(loader.construct_sequence(node, deep=True))
    Loader.add_constructor('tag:yaml.org,2002:python/tuple', tuple_of)
    try:
        value = yaml.load(text, Loader)
    except yaml.YAMLError as e:
        mark = getattr(e, 'problem_mark', None)
        where = f'{file}:{mark.line + 1}' if mark else str(file)
        raise ConfigError(f'{where}: this is no YAML: {getattr(e, "problem", None) or e}') from None
    except (RecursionError, ValueError, TypeError) as e:
        raise ConfigError(f'{file}: this is no YAML, or is nested too deep: {e}') from None
    meter.walk(value)
    return _whole(value, file)


def _whole(value: Any, file: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f'{file} holds a {type(value).__name__}; a config is a dict')
    return value
