"""Cutting around a random middle, and padding around a picture, as CenterNet and CornerNet do."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.data.transforms.geometric import boxes_inside, clip_boxes
from omnidet.errors import ConfigError, DatasetError
from omnidet.registry import TRANSFORMS

Window = tuple[int, int, int, int]

TRIES = 50
"""How many middles are tried for a size, and how many sizes."""


@TRANSFORMS.register
class RandomCenterCropPad(BaseTransform):
    """Cut a random part of the image, or pad around it where it is smaller; for testing, pad to a size that fits.

    Training: a size is drawn from `ratios`, and the middle of the part within a border of the image; at least one
    box must have its own middle in the part, and those that do not are dropped. Testing (`test_mode`): the picture
    lies in the middle of a larger image; sets `border`, the (top, bottom, left, right) of it, and `offset` (x, y).

    Args:
        crop_size: (w, h) of the part, before the ratio; for training alone.
        ratios: factors of `crop_size` to draw from; for training alone.
        border: how far from the image's edge the middle lies at least, less where the image is small; for training
            alone.
        mean: the colour of the padding, in RGB where `to_rgb`.
        std: accepted as configs carry it.
        to_rgb: whether `mean` is in RGB; images are in BGR.
        test_mode: pad, do not cut.
        test_pad_mode: ('logical_or', n) pads a side s to s | n, ('size_divisor', n) to a multiple of n.
        test_pad_add_pix: pixels that are added to that.
        bbox_clip_border: cut boxes to the part.
    """

    def __init__(self, crop_size: tuple[int, int] | None = None, ratios: Sequence[float] | None = (0.9, 1.0, 1.1),
                 border: int | None = 128, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
                 to_rgb: bool | None = None, test_mode: bool = False,
                 test_pad_mode: tuple[str, int] | None = ('logical_or', 127), test_pad_add_pix: int = 0,
                 bbox_clip_border: bool = True) -> None:
        if mean is None or to_rgb is None:
            raise ConfigError('RandomCenterCropPad: mean, std and to_rgb must be given')
        if test_mode and (test_pad_mode is None or test_pad_mode[0] not in ('logical_or', 'size_divisor')):
            raise ConfigError(f'RandomCenterCropPad: test_pad_mode is {test_pad_mode!r}; with test_mode it is '
                              "('logical_or', n) or ('size_divisor', n)")
        if test_mode and (crop_size is not None or ratios is not None or border is not None):
            raise ConfigError('RandomCenterCropPad: crop_size, ratios and border must be None with test_mode')
        if not test_mode and (crop_size is None or min(crop_size) <= 0 or not ratios or border is None):
            raise ConfigError(f'RandomCenterCropPad: for training, crop_size {crop_size!r} must be a positive (w, h), '
                              f'and ratios {ratios!r} and border {border!r} must be given')
        self.crop_size, self.ratios, self.border = crop_size, ratios, border
        self.color = np.array(mean[::-1] if to_rgb else mean, np.float32)
        self.test_mode, self.test_pad_mode, self.test_pad_add_pix = test_mode, test_pad_mode, test_pad_add_pix
        self.bbox_clip_border = bbox_clip_border

    def transform(self, results: Results) -> Results | None:
        return self._pad(results) if self.test_mode else self._cut(results)

    def _pad(self, results: Results) -> Results:
        h, w = results['img'].shape[:2]
        assert self.test_pad_mode is not None
        kind, n = self.test_pad_mode
        target = [(s | n if kind == 'logical_or' else math.ceil(s / n) * n) + self.test_pad_add_pix for s in (h, w)]
        results['img'], _, (x1, y1, x2, y2) = place(results['img'], (w // 2, h // 2), (target[0], target[1]),
                                                    self.color)
        results['img_shape'] = results['pad_shape'] = (target[0], target[1])
        results['border'], results['offset'] = np.array([y1, y2, x1, x2], np.float32), (x1, y1)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'] = results['gt_bboxes'] + np.array([x1, y1, x1, y1], np.float32)
        return results

    def _cut(self, results: Results) -> Results | None:
        assert self.crop_size is not None and self.ratios is not None and self.border is not None
        if results.get('gt_masks') is not None or results.get('gt_seg_map') is not None:
            raise DatasetError('RandomCenterCropPad: for training it cuts images and boxes, no masks or semantic maps')
        image, boxes = results['img'], results.get('gt_bboxes')
        h, w = image.shape[:2]
        margin_x, margin_y = inner_border(self.border, w), inner_border(self.border, h)
        for _ in range(TRIES):
            ratio = random.choice(self.ratios)
            shape = int(self.crop_size[1] * ratio), int(self.crop_size[0] * ratio)
            for _ in range(TRIES):
                x = np.random.randint(margin_x, w - margin_x)
                y = np.random.randint(margin_y, h - margin_y)
                if boxes is None or len(boxes) == 0:
                    results['img'] = place(image, (x, y), shape, self.color)[0]
                    results['img_shape'] = results['pad_shape'] = shape
                    return results
                keep = middle_inside(boxes, part_of((h, w), (x, y), shape))
                if keep.any():
                    return self._take(results, (x, y), shape, keep)
        return None    # no box has its middle where one may lie

    def _take(self, results: Results, center: tuple[int, int], shape: tuple[int, int], keep: np.ndarray) -> Results:
        results['img'], part, where = place(results['img'], center, shape, self.color)
        results['img_shape'] = results['pad_shape'] = shape
        shift = np.array([where[0] - part[0], where[1] - part[1]] * 2, np.float32)
        results = keep_instances(results, keep)
        boxes = results['gt_bboxes'] + shift
        results['gt_bboxes'] = clip_boxes(boxes, shape) if self.bbox_clip_border else boxes
        return keep_instances(results, boxes_inside(results['gt_bboxes'], shape))


def inner_border(border: int, size: int) -> int:
    """`border`, halved until less than half of `size` is border on either side."""
    ratio = 2 * border / size
    return border // 2 ** math.ceil(math.log2(math.ceil(ratio) + (ratio == int(ratio))))


def part_of(image: tuple[int, int], center: tuple[int, int], shape: tuple[int, int]) -> Window:
    """What of an image of (h, w) lies in a window of `shape` (h, w) around `center` (x, y): x1, y1, x2, y2."""
    (h, w), (x, y) = image, center
    half_h, half_w = shape[0] // 2, shape[1] // 2
    return max(0, x - half_w), max(0, y - half_h), min(x + half_w, w), min(y + half_h, h)


def place(image: np.ndarray, center: tuple[int, int], shape: tuple[int, int], color: np.ndarray
          ) -> tuple[np.ndarray, Window, Window]:
    """An image of `shape` (h, w) with `center` (x, y) of `image` in its middle.

    Returns:
        The image, the part of `image` that is in it, and where in it that lies, both x1, y1, x2, y2.
    """
    x1, y1, x2, y2 = part = part_of((image.shape[0], image.shape[1]), center, shape)
    dx, dy = shape[1] // 2 - center[0], shape[0] // 2 - center[1]
    out = np.empty((*shape, *image.shape[2:]), image.dtype)
    out[:] = color
    out[y1 + dy:y2 + dy, x1 + dx:x2 + dx] = image[y1:y2, x1:x2]
    return out, part, (x1 + dx, y1 + dy, x2 + dx, y2 + dy)


def middle_inside(boxes: np.ndarray, part: Window) -> np.ndarray:
    """(G,) bool, True for a box whose middle lies within `part` x1, y1, x2, y2."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((middle > part[:2]) & (middle < part[2:])).all(-1)
