"""Transforms of the users' own, with the keys and kinds of boxes that MMDetection would hand them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from omnidet.compat.boxes import HorizontalBoxes
from omnidet.data.transforms.base import Results


@functools.cache
def adapted(cls: type) -> type:
    """A subclass of the user's transform that is handed what it expects; its name stays, as configs name it.

    A class with `transform(results)` is of 3.x: boxes are `HorizontalBoxes`, arrays with its methods. One with
    `__call__(results)` alone is of 2.x: it sees `gt_labels`, ignored boxes apart, and the lists of fields.
    """
    user: Any = cls
    if hasattr(cls, 'transform'):
        def run(self: Any, results: Results) -> Any:
            if isinstance(results, dict) and isinstance(results.get('gt_bboxes'), np.ndarray):
                results['gt_bboxes'] = results['gt_bboxes'].view(HorizontalBoxes)
            return _plain(user.transform(self, results))
        method = 'transform'
    else:
        def run(self: Any, results: Results) -> Any:
            before = set(results)
            _show_old_keys(results)
            out = user.__call__(self, results)
            if isinstance(out, dict):
                _take_back_old_keys(out, before)
            return _plain(out)
        method = '__call__'
    return type(cls.__name__, (cls,), {method: run, '__module__': cls.__module__,
                                       '__reduce__': lambda self: (_remade, (cls, self.__dict__))})


def _remade(cls: type, state: dict[str, Any]) -> Any:
    """An object of `adapted(cls)` as it was before it was pickled."""
    made: Any = object.__new__(adapted(cls))
    made.__dict__.update(state)
    return made


OLD_KEYS = ('filename', 'ori_filename', 'img_info', 'img_fields', 'bbox_fields', 'mask_fields', 'seg_fields')


def _show_old_keys(results: Results) -> None:
    """Bring `results` into the form of 2.x, in place."""
    _split_ignored(results)
    path = results.get('img_path')
    results.setdefault('filename', path)
    results.setdefault('ori_filename', path)
    results.setdefault('img_info', {'filename': path, 'id': results.get('img_id'), 'height': results.get('height'),
                                    'width': results.get('width')})
    results['img_fields'] = ['img'] if 'img' in results else []
    results['bbox_fields'] = [k for k in ('gt_bboxes', 'gt_bboxes_ignore') if k in results]
    results['mask_fields'] = ['gt_masks'] if results.get('gt_masks') is not None else []
    results['seg_fields'] = ['gt_semantic_seg'] if 'gt_semantic_seg' in results else []
    factor = results.get('scale_factor')
    if factor is not None:
        results['scale_factor'] = np.array([*factor, *factor], np.float32)


def _take_back_old_keys(results: Results, before: set[str]) -> None:
    """Bring `results`, which had the keys `before`, into the form of 3.x again, in place."""
    _join_ignored(results)
    factor = results.get('scale_factor')
    if factor is not None:
        w, h = (factor, factor) if np.ndim(factor) == 0 else factor[:2]
        results['scale_factor'] = (float(w), float(h))
    if 'img' in results:
        results['img_shape'] = results['img'].shape[:2]
    for key in set(OLD_KEYS) - before:
        results.pop(key, None)


def _split_ignored(results: Results) -> None:
    """Boxes to learn from as `gt_bboxes` and `gt_labels`, the others, without masks, as `gt_bboxes_ignore`."""
    if results.get('gt_bboxes') is None:
        return
    boxes, labels = results['gt_bboxes'], results.pop('gt_bboxes_labels', None)
    ignored = results.pop('gt_ignore_flags', None)
    ignored = np.zeros(len(boxes), bool) if ignored is None else np.asarray(ignored, bool)
    results['gt_bboxes'], results['gt_bboxes_ignore'] = boxes[~ignored], boxes[ignored]
    if labels is not None:
        results['gt_labels'], results['gt_labels_ignore'] = labels[~ignored], labels[ignored]
    if results.get('gt_masks') is not None:
        results['gt_masks'], results['gt_masks_ignore'] = results['gt_masks'][~ignored], results['gt_masks'][ignored]
    if 'gt_seg_map' in results:
        results['gt_semantic_seg'] = results.pop('gt_seg_map')


def _join_ignored(results: Results) -> None:
    """What `_split_ignored` took apart, together again."""
    if results.get('gt_bboxes') is None:
        return
    learnt = np.asarray(results['gt_bboxes'], np.float32).reshape(-1, 4)
    ignored = np.asarray(results.pop('gt_bboxes_ignore', np.zeros((0, 4))), np.float32).reshape(-1, 4)
    results['gt_bboxes'] = np.concatenate([learnt, ignored])
    results['gt_ignore_flags'] = np.arange(len(learnt) + len(ignored)) >= len(learnt)
    old = results.pop('gt_labels_ignore', np.zeros(0, np.int64))
    if 'gt_labels' in results:
        old = np.resize(old, len(ignored)) if len(old) else np.zeros(len(ignored), np.int64)
        results['gt_bboxes_labels'] = np.concatenate([np.asarray(results.pop('gt_labels'), np.int64), old])
    hidden = results.pop('gt_masks_ignore', None)
    if hidden is not None and len(hidden) and len(hidden) == len(ignored):
        results['gt_masks'] = type(hidden).cat([results['gt_masks'], hidden])
    elif results.get('gt_masks') is not None and len(ignored):
        results['gt_bboxes'], results['gt_ignore_flags'] = learnt, np.zeros(len(learnt), bool)
        results['gt_bboxes_labels'] = results['gt_bboxes_labels'][:len(learnt)]
    if 'gt_semantic_seg' in results:
        results['gt_seg_map'] = results.pop('gt_semantic_seg')


def _plain(results: Any) -> Any:
    """`results` with `gt_bboxes` as a plain array."""
    if isinstance(results, dict) and results.get('gt_bboxes') is not None:
        boxes = results['gt_bboxes']
        boxes = boxes.tensor.numpy() if hasattr(boxes, 'tensor') and not isinstance(boxes, np.ndarray) else boxes
        results['gt_bboxes'] = np.asarray(boxes, np.float32).view(np.ndarray).reshape(-1, 4)
    return results
