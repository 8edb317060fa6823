"""Holes in the image: what is behind them is not to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS


@TRANSFORMS.register
class CutOut(BaseTransform):
    """Cover random rectangles of the image (arXiv:1708.04552); annotations stay as they are.

    Args:
        n_holes: how many, or the range to draw from, both ends included.
        cutout_shape: (w, h) of a hole in pixels, or several to draw from.
        cutout_ratio: in place of `cutout_shape`, as fractions of the image.
        fill_in: the holes' value, one for each channel.
    """

    def __init__(self, n_holes: int | tuple[int, int], cutout_shape: Any = None, cutout_ratio: Any = None,
                 fill_in: Sequence[float] = (0, 0, 0)) -> None:
        if (cutout_shape is None) == (cutout_ratio is None):
            raise ConfigError('CutOut: give one of cutout_shape and cutout_ratio')
        sizes = cutout_shape if cutout_ratio is None else cutout_ratio
        self.n_holes = (n_holes, n_holes) if isinstance(n_holes, int) else (n_holes[0], n_holes[1])
        self.sizes = [tuple(sizes)] if isinstance(sizes[0], (int, float)) else [tuple(s) for s in sizes]
        self.relative = cutout_ratio is not None
        self.fill_in = tuple(fill_in)

    def transform(self, results: Results) -> Results:
        image = results['img'].copy()
        h, w = image.shape[:2]
        for _ in range(np.random.randint(self.n_holes[0], self.n_holes[1] + 1)):
            x, y = np.random.randint(0, w), np.random.randint(0, h)
            hole_w, hole_h = self.sizes[np.random.randint(len(self.sizes))]
            if self.relative:
                hole_w, hole_h = int(hole_w * w), int(hole_h * h)
            image[y:y + int(hole_h), x:x + int(hole_w)] = self.fill_in if image.ndim == 3 else self.fill_in[0]
        results['img'] = image
        return results


@TRANSFORMS.register
class RandomErasing(BaseTransform):
    """Erase random patches of the image with the masks and the semantic map behind them (arXiv:1708.04896).

    Boxes that are covered for the most part go with them.

    Args:
        n_patches: how many, or the range to draw from, both ends included.
        ratio: a patch's sides as fractions of the image's, or the range to draw from.
        squared: the same fraction for both sides.
        bbox_erased_thr: drop boxes of which at least this share is covered; patches that overlap count twice.
        img_border_value: what a patch shows: a number, or one for each channel.
        mask_border_value: 0; masks end at a patch.
        seg_ignore_label: what the semantic map holds there.
    """

    def __init__(self, n_patches: int | tuple[int, int], ratio: float | tuple[float, float], squared: bool = True,
                 bbox_erased_thr: float = 0.9, img_border_value: float | Sequence[float] = 128,
                 mask_border_value: int = 0, seg_ignore_label: int = 255) -> None:
        if mask_border_value:
            raise ConfigError(f'RandomErasing.mask_border_value: only 0 is known; found {mask_border_value!r}')
        self.n_patches = (n_patches, n_patches) if isinstance(n_patches, int) else (n_patches[0], n_patches[1])
        self.ratio = (ratio, ratio) if isinstance(ratio, (int, float)) else (ratio[0], ratio[1])
        if not 0 < self.ratio[0] <= self.ratio[1] < 1:
            raise ConfigError(f'RandomErasing.ratio: fractions below 1 are wanted; found {ratio!r}')
        self.squared = squared
        self.bbox_erased_thr = bbox_erased_thr
        self.img_border_value = img_border_value
        self.seg_ignore_label = seg_ignore_label

    def transform(self, results: Results) -> Results:
        h, w = results['img'].shape[:2]
        patches = [self._draw(h, w) for _ in range(np.random.randint(self.n_patches[0], self.n_patches[1] + 1))]
        results['img'] = _filled(results['img'], patches, self.img_border_value)
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = _filled(results['gt_seg_map'], patches, self.seg_ignore_label)
        if results.get('gt_masks') is not None:
            hidden = _filled(np.zeros((h, w), bool), patches, True)
            results['gt_masks'] = results['gt_masks'].to_bitmap().without(hidden)
        if results.get('gt_bboxes') is not None and patches:
            boxes, holes = results['gt_bboxes'][:, None], np.array(patches, np.float32)[None]
            shared = np.minimum(boxes[..., 2:], holes[..., 2:]) - np.maximum(boxes[..., :2], holes[..., :2])
            area = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)[:, 0]
            covered = shared.clip(0).prod(axis=-1).sum(axis=1) / (area + 1e-7)    # (G,)
            results = keep_instances(results, covered < self.bbox_erased_thr)
        return results

    def _draw(self, h: int, w: int) -> tuple[int, int, int, int]:
        a = np.random.uniform(*self.ratio)
        b = a if self.squared else np.random.uniform(*self.ratio)
        patch_h, patch_w = int(h * a), int(w * b)
        y, x = np.random.randint(0, h - patch_h), np.random.randint(0, w - patch_w)
        return x, y, x + patch_w, y + patch_h


def _filled(array: np.ndarray, patches: Sequence[tuple[int, int, int, int]], value: Any) -> np.ndarray:
    out = array.copy()
    for x1, y1, x2, y2 in patches:
        out[y1:y2, x1:x2] = value
    return out
