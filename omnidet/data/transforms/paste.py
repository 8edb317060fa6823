"""Objects of one image pasted into another."""

from __future__ import annotations

from typing import Any

import numpy as np

from omnidet.data.masks import BitmapMasks
from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS


@TRANSFORMS.register
class CopyPaste(BaseTransform):
    """Paste objects of another image over this one (simple copy-paste, arXiv:2012.07177).

    The other image is `mix_results[0]`, which `MultiImageMixDataset` draws. What is pasted hides what is behind it;
    an object whose box is hardly changed, or of which enough is left to be seen, stays.

    Args:
        max_num_pasted: the number of objects is drawn below this.
        bbox_occluded_thr: pixels by which each side of a box may move for its object to stay.
        mask_occluded_thr: more visible pixels than this, and the object stays.
        selected: paste a random choice of the objects; otherwise all.
        paste_by_box: paste boxes, where the data has no masks.
    """

    def __init__(self, max_num_pasted: int = 100, bbox_occluded_thr: int = 10, mask_occluded_thr: int = 300,
                 selected: bool = True, paste_by_box: bool = False) -> None:
        self.max_num_pasted = max_num_pasted
        self.bbox_occluded_thr = bbox_occluded_thr
        self.mask_occluded_thr = mask_occluded_thr
        self.selected = selected
        self.paste_by_box = paste_by_box

    def get_indexes(self, dataset: Any) -> int:
        """Which image of `dataset` to take objects from."""
        return int(np.random.randint(len(dataset)))

    def transform(self, results: Results) -> Results:
        mixed = results.get('mix_results')
        if mixed is None or len(mixed) != 1:
            raise ConfigError('CopyPaste needs one other image: wrap the data set in a MultiImageMixDataset, whose '
                              'pipeline CopyPaste is part of')
        h, w = results['img'].shape[:2]
        source = self._choose(dict(mixed[0])) if self.selected else dict(mixed[0])
        pasted = self._masks(source).shift(0, 0, (h, w))
        seen = pasted.areas > 0    # the other image may be larger
        source, pasted = keep_instances(source, seen), pasted[seen]
        if not len(pasted):
            return results
        hidden = pasted.union()
        old = self._masks(results)
        masks = old.without(hidden)
        boxes = masks.get_bboxes()
        touched = masks.areas < old.areas    # annotated boxes of the others are finer than those of their pixels
        same = (np.abs(boxes - results['gt_bboxes']) <= self.bbox_occluded_thr).all(axis=1)
        keep = ~touched | (same & (masks.areas > 0)) | (masks.areas > self.mask_occluded_thr)
        results['gt_bboxes'] = np.where(touched[:, None], boxes, results['gt_bboxes'])
        results = keep_instances(results, keep)
        return self._join(results, source, masks[keep].cat([masks[keep], pasted]), hidden)

    def _choose(self, source: Results) -> Results:
        """Some of the objects of the other image, maybe none."""
        n = len(source['gt_bboxes'])
        count = np.random.randint(0, min(n + 1, self.max_num_pasted))
        return keep_instances(source, np.random.choice(n, size=count, replace=False))

    def _masks(self, results: Results) -> BitmapMasks:
        """The masks of an image; those of its boxes where boxes are pasted."""
        if results.get('gt_masks') is not None:
            return results['gt_masks'].to_bitmap()
        if not self.paste_by_box:
            raise ConfigError('CopyPaste needs masks: LoadAnnotations(with_mask=True), or CopyPaste(paste_by_box=True)')
        h, w = results['img'].shape[:2]
        x1, y1, x2, y2 = results['gt_bboxes'].round().clip(0, [w, h, w, h]).astype(int).T
        windows = list(zip(x1.tolist(), y1.tolist(), x2.tolist(), y2.tolist(), strict=True))
        return BitmapMasks.from_windows(((b, np.ones((b[3] - b[1], b[2] - b[0]), np.uint8)) for b in windows), h, w)

    @staticmethod
    def _join(results: Results, source: Results, masks: BitmapMasks, hidden: np.ndarray) -> Results:
        """`results` with the objects of `source` in it and the pixels that `hidden` (h, w) marks."""
        h, w = hidden.shape
        for key in ('img', 'gt_seg_map'):
            if results.get(key) is not None and source.get(key) is not None:
                part = source[key][:h, :w]
                target = results[key].copy()
                where = hidden[:part.shape[0], :part.shape[1]]
                target[:part.shape[0], :part.shape[1]][where] = part[where]
                results[key] = target
        for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
            if results.get(key) is not None:
                results[key] = np.concatenate([results[key], source[key]])
        if results.get('gt_masks') is not None:
            results['gt_masks'] = masks
            h, w = results['img'].shape[:2]
        results['gt_bboxes'] = results['gt_bboxes'].clip(0, np.array([w, h, w, h], np.float32))
        return results
