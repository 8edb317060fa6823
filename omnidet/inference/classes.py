"""What a detector's labels are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omnidet.data.datasets.coco_classes import COCO_CLASSES, COCO_STUFF_CLASSES


def find_classes(meta: Mapping[str, Any], cfg: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the labels: those the checkpoint was trained on, else the config's, else COCO's, else numbers.

    Args:
        meta: a checkpoint's, or an empty one; `dataset_meta` as MMDetection 3.x writes it, or `CLASSES` as 2.x does.
        cfg: a whole config; its test data set's `metainfo` and its model's `num_classes` are read.
    """
    K = next(_num_classes(cfg.get('model') or {}), None)
    named = [_names(meta.get('dataset_meta') or {}), _names(meta),
             *(_names(dataset.get('metainfo') or {}) for key in ('test_dataloader', 'val_dataloader')
               for dataset in _datasets((cfg.get(key) or {}).get('dataset')))]
    for classes in named:
        if classes and K in (None, len(classes)):
            return classes
    for classes in (COCO_CLASSES, COCO_CLASSES + COCO_STUFF_CLASSES):
        if len(classes) == K:
            return tuple(classes)
    return tuple(map(str, range(K or 0)))


def _names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    classes = meta.get('classes') or meta.get('CLASSES') or ()
    return (classes,) if isinstance(classes, str) else tuple(map(str, classes))


def _num_classes(node: Any) -> Iterator[int]:
    """Every `num_classes` of a model's heads, or things and stuff; a backbone has one of another meaning."""
    if isinstance(node, Mapping):
        if isinstance(node.get('num_things_classes'), int):
            yield node['num_things_classes'] + int(node.get('num_stuff_classes') or 0)
        if isinstance(node.get('num_classes'), int):
            yield node['num_classes']
        for key, value in node.items():
            if key != 'backbone':
                yield from _num_classes(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from _num_classes(value)


def _datasets(node: Any) -> Iterator[Mapping[str, Any]]:
    """A data set's dict, and those that it wraps."""
    if isinstance(node, Mapping):
        yield node
        yield from _datasets(node.get('dataset'))
        for inner in node.get('datasets') or ():
            yield from _datasets(inner)
