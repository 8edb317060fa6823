"""SSD's zooming out and in (arXiv:1512.02325, section 2.2): a larger canvas, and crops that overlap the objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.data.transforms.geometric import clip_boxes
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS


@TRANSFORMS.register
class Expand(BaseTransform):
    """Put the image at a random place on a larger canvas, with a probability.

    Args:
        mean: what fills the canvas, one number for each channel.
        to_rgb: `mean` is in RGB, as a preprocessor's that swaps channels; the image is in BGR.
        seg_ignore_label: what fills the semantic map; 255 where not given.
        ratio_range: the least and the greatest factor of the sides.
        prob: the probability of expanding.
    """

    def __init__(self, mean: Sequence[float] = (0, 0, 0), to_rgb: bool = True, seg_ignore_label: int | None = None,
                 ratio_range: tuple[float, float] = (1, 4), prob: float = 0.5) -> None:
        if ratio_range[0] < 1 or ratio_range[1] < ratio_range[0]:
            raise ConfigError(f'Expand.ratio_range: two factors from 1 upwards are wanted; found {ratio_range!r}')
        self.mean = tuple(mean)[::-1] if to_rgb else tuple(mean)
        self.seg_ignore_label = 255 if seg_ignore_label is None else seg_ignore_label
        self.ratio_range = ratio_range
        self.prob = prob

    def transform(self, results: Results) -> Results:
        if np.random.uniform(0, 1) > self.prob:
            return results
        ratio = np.random.uniform(*self.ratio_range)
        h, w = results['img'].shape[:2]
        H, W = int(h * ratio), int(w * ratio)
        x, y = int(np.random.uniform(0, W - w)), int(np.random.uniform(0, H - h))
        canvas = np.empty((H, W, *results['img'].shape[2:]), results['img'].dtype)
        canvas[:] = self.mean if canvas.ndim == 3 else self.mean[0]
        canvas[y:y + h, x:x + w] = results['img']
        results['img'], results['img_shape'] = canvas, (H, W)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'] = results['gt_bboxes'] + np.array([x, y, x, y], np.float32)
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].shift(x, y, (H, W))
        if results.get('gt_seg_map') is not None:
            seg_map = np.full((H, W), self.seg_ignore_label, results['gt_seg_map'].dtype)
            seg_map[y:y + h, x:x + w] = results['gt_seg_map']
            results['gt_seg_map'] = seg_map
        return results


@TRANSFORMS.register
class MinIoURandomCrop(BaseTransform):
    """Cut out a part that overlaps each object by at least a random IoU; objects whose centres it misses go.

    The IoU is drawn from `min_ious`, 0 (any part with an object's centre) and 1 (the whole image). Fifty parts are
    tried before another IoU is drawn.

    Args:
        min_ious: what to draw from.
        min_crop_size: the least side of the part, as a fraction of the image's.
        bbox_clip_border: cut boxes to the part.
    """

    def __init__(self, min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size: float = 0.3,
                 bbox_clip_border: bool = True) -> None:
        if not 0 < min_crop_size <= 1:
            raise ConfigError(f'MinIoURandomCrop.min_crop_size: a fraction is wanted; found {min_crop_size!r}')
        self.choices = (1.0, *min_ious, 0.0)
        self.min_crop_size = min_crop_size
        self.bbox_clip_border = bbox_clip_border

    def transform(self, results: Results) -> Results:
        h, w = results['img'].shape[:2]
        boxes = results['gt_bboxes']
        while True:
            min_iou = self.choices[np.random.randint(len(self.choices))]
            if min_iou == 1:
                return results
            for _ in range(50):
                window = self._draw(h, w)
                if window is None:
                    continue
                part = np.array(window, np.float32)
                if not len(boxes):
                    return self._crop(results, window, np.zeros(0, bool))
                centre = (boxes[:, :2] + boxes[:, 2:]) / 2
                inside = ((centre > part[:2]) & (centre < part[2:])).all(axis=1)
                if inside.any() and _iou(part, boxes).min() >= min_iou:
                    return self._crop(results, window, inside)

    def _draw(self, h: int, w: int) -> tuple[int, int, int, int] | None:
        """A part of the image; None where it is more than twice as long as wide."""
        crop_w, crop_h = (np.random.uniform(self.min_crop_size * side, side) for side in (w, h))
        if not 0.5 <= crop_h / crop_w <= 2:
            return None
        x, y = np.random.uniform(0, w - crop_w), np.random.uniform(0, h - crop_h)
        x1, y1, x2, y2 = int(x), int(y), int(x + crop_w), int(y + crop_h)
        return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None

    def _crop(self, results: Results, window: tuple[int, int, int, int], keep: np.ndarray) -> Results:
        x1, y1, x2, y2 = window
        results = keep_instances(results, keep)
        boxes = results['gt_bboxes']
        if self.bbox_clip_border:
            boxes = clip_boxes(boxes - np.array([x1, y1, x1, y1], np.float32), (y2 - y1, x2 - x1))
        else:
            boxes = boxes - np.array([x1, y1, x1, y1], np.float32)
        results['gt_bboxes'] = boxes
        results['img'], results['img_shape'] = results['img'][y1:y2, x1:x2], (y2 - y1, x2 - x1)
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].crop(window)
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = results['gt_seg_map'][y1:y2, x1:x2]
        return results


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(G,) of one box with others (G, 4)."""
    wh = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = wh.clip(0).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared).clip(1e-6)
