"""Do a config and the annotation files that it names speak of the same classes? Asked before anything is built."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import omnidet
from omnidet.config.data_root import iter_datasets
from omnidet.errors import ConfigError

LARGEST_FILE = 200 * 2**20
"""Bytes; a larger annotation file is not read a second time for this."""


def check_classes(cfg: Mapping[str, Any], splits: Iterable[str]) -> None:
    """Stop where a data set names no classes of its own, and its file has others than the ones it takes by default.

    Args:
        cfg: a whole config.
        splits: what will be used, of 'train', 'val' and 'test'.

    Raises:
        ConfigError: the message has the lines that the config needs.
    """
    found = []
    for split in splits:
        for dataset in iter_datasets(cfg.get(f'{split}_dataloader')):
            default = default_classes(dataset)
            path = Path(dataset.get('data_root') or '', str(dataset.get('ann_file') or ''))
            if default and path.is_file() and path.stat().st_size < LARGEST_FILE:
                found.append((path.stat().st_size, path, default))
    if not found:
        return
    _, path, default = min(found, key=lambda f: f[0])    # one file tells
    names = read_category_names(path)
    if names and not set(names) <= set(default):
        raise ConfigError(explain(cfg, path, names, default))


def default_classes(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that a data set takes because its config names none; empty where it names some."""
    from omnidet.registry import DATASETS
    metainfo = dataset.get('metainfo') or {}
    if metainfo.get('classes') or metainfo.get('CLASSES') or dataset.get('type') is None:
        return ()
    cls = DATASETS.find(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
    return tuple(getattr(cls, 'METAINFO', {}).get('classes', ()))


def read_category_names(path: Path) -> list[str]:
    """The names of the categories in a COCO json; empty where the file is not one (its reader will say so)."""
    try:
        content = json.loads(path.read_bytes())
        return [c['name'] for c in content['categories']]
    except (ValueError, KeyError, TypeError):
        return []


def explain(cfg: Mapping[str, Any], path: Path, names: list[str], default: tuple[str, ...]) -> str:
    """What does not fit, and the lines that mend it."""
    missing = [n for n in names if n not in default]
    lines = [f'{path} has classes that the config does not know: {_list(missing)}',
             f'It names no classes, so its data set takes {len(default)} by default: {_list(default)}',
             'Write a config of your own with these lines:', '',
             f'_base_ = {_base_name(cfg)!r}',
             f'classes = {tuple(names)!r}']
    lines += [f'{split}_dataloader = dict(dataset={_wrap(cfg, split)})' for split in ('train', 'val', 'test')
              if cfg.get(f'{split}_dataloader')]
    heads = sorted(find_heads(cfg.get('model') or {}, len(default)))
    lines += [f'model = {_nest(head, "num_classes", len(names))}' for head in heads]
    return '\n'.join(lines)


def find_heads(node: Any, count: int, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of a model's dicts that say `num_classes=count`; one inside a list is named by its index."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        if key == 'num_classes' and value == count:
            yield path
        yield from find_heads(value, count, (*path, str(key)))


def _base_name(cfg: Mapping[str, Any]) -> str:
    """How another config names this one: `omnidet::rtmdet/...` for one of the zoo, else its path."""
    path, zoo = getattr(cfg, 'filename', None), Path(omnidet.__file__).parent / 'configs'
    if path is None:
        return 'the config that you gave'
    return f'omnidet::{Path(path).relative_to(zoo).as_posix()}' if Path(path).is_relative_to(zoo) else str(path)


def _nest(path: tuple[str, ...], key: str, value: Any) -> str:
    """`('roi_head', 'bbox_head')` -> `dict(roi_head=dict(bbox_head=dict(key=value)))`."""
    text = f'dict({key}={value})'
    for name in reversed(path):
        text = f'{{{int(name)}: {text}}}' if name.isdigit() else f'dict({name}={text})'
    return text


def _wrap(cfg: Mapping[str, Any], split: str) -> str:
    """`dict(metainfo=...)`, inside the wrappers (`RepeatDataset`) that stand around the data set."""
    text, node = 'dict(metainfo=dict(classes=classes))', cfg[f'{split}_dataloader'].get('dataset')
    while isinstance(node, Mapping) and isinstance(node.get('dataset'), Mapping):
        text, node = f'dict(dataset={text})', node['dataset']
    return text


def _list(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ', '.join(map(repr, names[:most])) + (f', ... ({len(names)} in all)' if len(names) > most else '')
