"""Changes from the command line: `--cfg-options a.b=1 c.d="[1,2]" e="dict(x=1)" model.stages.0.depth=3`."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from omnidet.config.expressions import BASE, Evaluator
from omnidet.config.interpreter import FAILURES, evaluate, failure
from omnidet.config.merge import DELETE, combine, own
from omnidet.config.meter import MAX_DEPTH, Meter, Refusal
from omnidet.config.nodes import ConfigDict, Origin, Origins, children
from omnidet.errors import ConfigError

SOURCE = '--cfg-options'
_WORDS = {'true': True, 'false': False, 'none': None, 'null': None}


def override(cfg: ConfigDict, options: Sequence[str] | Mapping[str, Any], origins: Origins, meter: Meter) -> None:
    """Change `cfg`, in place.

    Args:
        cfg: a whole experiment.
        options: `key=value` texts, or {key: value}; a key is a dotted path, with numbers for items of lists.
        origins: is told what was changed.
        meter: what the evaluation of the values may take.

    Raises:
        ConfigError: an option cannot be read, or its path leads through something that has no items.
    """
    pairs = options.items() if isinstance(options, Mapping) else [_split(o) for o in options]
    for key, value in pairs:
        text = f'{key}={value!r}' if isinstance(options, Mapping) else f'{key}={value}'
        try:
            if not isinstance(options, Mapping):
                value = parse_value(value, key, origins, meter)
            _set(cfg, str(key), own(value, origins, meter), origins)
        except FAILURES as e:
            raise ConfigError(f'{SOURCE} {text[:200]}: {failure(e)}') from None


def split_options(options: Sequence[str] | Mapping[str, Any], keys: Collection[str]
                  ) -> tuple[Sequence[str] | Mapping[str, Any], Sequence[str] | Mapping[str, Any]]:
    """The options that change one of `keys` (paths, or top-level keys with all in them), and the others."""
    def early(option: Any) -> bool:
        key = str(option).partition('=')[0].strip()
        return key in keys or key.partition('.')[0] in keys
    if isinstance(options, Mapping):
        return {k: v for k, v in options.items() if early(k)}, {k: v for k, v in options.items() if not early(k)}
    return [o for o in options if early(o)], [o for o in options if not early(o)]


def _split(option: str) -> tuple[str, str]:
    key, equals, value = option.partition('=')
    if not equals or not re.fullmatch(r'[^\s.=]+(\.[^\s.=]+)*', key.strip()):
        raise ConfigError(f'{SOURCE} {option[:200]}: an option is written key=value, such as '
                          'model.neck.out_channels=96')
    return key.strip(), value.strip()


def parse_value(text: str, key: str, origins: Origins, meter: Meter) -> Any:
    """The value that a text on the command line stands for.

    A number, True, None, a list, a dict or a quoted text is read as Python; `a,b` is a list; inside of brackets a bare
    word is a text; everything else is a text as it stands.

    Raises:
        ConfigError: it opens a bracket or a quote, but is no Python.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    structured = text.startswith(('[', '(', '{', 'dict(', '"', "'"))
    try:
        node = ast.parse(text, mode='eval').body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        if structured and text.startswith(('[', '(', '{', 'dict(')):
            raise ConfigError(f'{SOURCE} {key}={text[:200]}: this is no Python value: {getattr(e, "msg", e)}') from None
        return [parse_value(t.strip(), key, origins, meter) for t in text.split(',')] if ',' in text else text
    if structured or isinstance(node, (ast.Constant, ast.UnaryOp)):
        evaluator = Evaluator(f'{SOURCE} {key}', meter, origins)
        evaluator.scopes = [_BareWords()]
        return evaluate(evaluator, node)
    if isinstance(node, ast.Tuple):
        meter.charge(len(node.elts) * (1 + len(text) // 64))    # Python goes through the whole text for each segment
        return [parse_value(ast.get_source_segment(text, item) or '', key, origins, meter) for item in node.elts]
    return text


class _BareWords(dict[str, Any]):
    """Every name stands for itself: `[bbox,segm]`; `true`, `false` and `none` for what they mean."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name != 'dict'

    def __missing__(self, name: str) -> Any:
        return _WORDS.get(name.lower(), name)


def _set(cfg: ConfigDict, key: str, value: Any, origins: Origins) -> None:
    """`cfg.a.b.c = value`; a dict is merged with the dict that is there."""
    at: Any = cfg
    parts = key.split('.')
    if parts[0] == BASE:
        raise Refusal(f'{BASE} was followed when the file was read; it cannot be changed any more')
    if len(parts) > MAX_DEPTH:
        raise Refusal(f'this key has {len(parts)} parts; dicts and lists may be nested {MAX_DEPTH} deep')
    for i, part in enumerate(parts):
        path = '.'.join(parts[:i]) or 'the config'
        if not isinstance(at, (list, ConfigDict)):
            raise Refusal(f'{path} is {at!r}; there is nothing in it')
        if i == len(parts) - 1:
            break
        if isinstance(at, list):
            at = at[_index(at, part, path)]
        else:
            if at.get(part) is None:
                dict.__setitem__(at, part, ConfigDict())
                origins.mark(at, part, Origin(SOURCE, 0))
            at = at[part]
    if isinstance(at, list):
        index = _index(at, parts[-1], path)
        if isinstance(at[index], ConfigDict) and isinstance(value, dict) and not value.pop(DELETE, False):
            _mark(value, origins)
            combine(value, at[index], origins, (*parts[:-1], index))
        else:
            _mark(value, origins)
            at[index] = origins.born(value, Origin(SOURCE, 0)) if isinstance(value, (dict, list)) else value
    else:
        item = ConfigDict()
        dict.__setitem__(item, parts[-1], value)
        _mark(item, origins)
        combine(item, at, origins, tuple(parts[:-1]))


def _index(items: list[Any], part: str, path: str) -> int:
    if not part.lstrip('-').isdecimal() or not -len(items) <= int(part) < len(items):
        raise Refusal(f'{path} is a list of {len(items)}; {part!r} is none of its numbers')
    return int(part)


def _mark(value: Any, origins: Origins) -> None:
    if isinstance(value, (dict, list)):
        origins.born(value, Origin(SOURCE, 0))
    for key, item in children(value):
        if isinstance(value, dict):
            origins.mark(value, key, Origin(SOURCE, 0))
        _mark(item, origins)
