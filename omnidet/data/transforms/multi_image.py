"""YOLOX's augmentations: mosaic and mix-up with other images of the data set, and the affine transform after them.

The other images come from `MultiImageMixDataset`, as `results['mix_results']`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.data.transforms.geometric import boxes_inside, clip_boxes
from omnidet.data.transforms.mix import check_mixable, fit_beside, mix_up, mosaic
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS


@TRANSFORMS.register
class Mosaic(BaseTransform):
    """Put four images around a random centre on a canvas of twice the size (YOLOv4, arXiv:2004.10934; YOLOX).

    The image itself comes to the top left, three others to the other corners, each resized to `img_scale` with the
    ratio of its sides kept and cut where it leaves the canvas.

    Args:
        img_scale: (w, h) of one image; the canvas is twice as wide and high.
        center_ratio_range: the centre, as a factor of `img_scale`, is drawn from this range, for x and y each.
        bbox_clip_border: cut boxes to the canvas.
        pad_val: what fills the canvas where there is no image.
        prob: the probability of a mosaic.
    """

    def __init__(self, img_scale: tuple[int, int] = (640, 640), center_ratio_range: tuple[float, float] = (0.5, 1.5),
                 bbox_clip_border: bool = True, pad_val: float = 114.0, prob: float = 1.0) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError(f'Mosaic.prob: a probability is wanted; found {prob!r}')
        self.img_scale = (int(img_scale[0]), int(img_scale[1]))
        self.center_ratio_range = center_ratio_range
        self.bbox_clip_border = bbox_clip_border
        self.pad_val = pad_val
        self.prob = prob

    def get_indexes(self, dataset: Any) -> list[int]:
        """The three other images."""
        return [random.randrange(len(dataset)) for _ in range(3)]

    def transform(self, results: Results) -> Results:
        if random.uniform(0, 1) > self.prob:
            return results
        others = _others(results, 3, 'Mosaic')
        return mosaic([results, *others], self.img_scale, self.center_ratio_range, self.pad_val, self.bbox_clip_border)


@TRANSFORMS.register
class MixUp(BaseTransform):
    """Lay another image over this one, both at half strength, and keep both's boxes (arXiv:1710.09412; YOLOX).

    The other image is resized into `img_scale` with the ratio of its sides kept, resized again by a random factor,
    flipped with a probability, and padded or cut at random to this image's size.

    Args:
        img_scale: (w, h) of the other image before the random factor.
        ratio_range: the random factor's range.
        flip_ratio: the probability of mirroring the other image.
        pad_val: what fills up the other image; a number, or one for each channel.
        max_iters: how often to draw for an image that has boxes.
        bbox_clip_border: cut boxes to the image.
    """

    def __init__(self, img_scale: tuple[int, int] = (640, 640), ratio_range: tuple[float, float] = (0.5, 1.5),
                 flip_ratio: float = 0.5, pad_val: float | Sequence[float] = 114.0, max_iters: int = 15,
                 bbox_clip_border: bool = True) -> None:
        self.img_scale = (int(img_scale[0]), int(img_scale[1]))
        self.ratio_range = ratio_range
        self.flip_ratio = flip_ratio
        self.pad_val = pad_val
        self.max_iters = max_iters
        self.bbox_clip_border = bbox_clip_border

    def get_indexes(self, dataset: Any) -> list[int]:
        """The other image: one with boxes, where `max_iters` draws find one."""
        index = random.randrange(len(dataset))
        for _ in range(self.max_iters - 1):
            if len(dataset.get_cat_ids(index)):
                break
            index = random.randrange(len(dataset))
        return [index]

    def transform(self, results: Results) -> Results:
        other, = _others(results, 1, 'MixUp')
        if len(other['gt_bboxes']) == 0:
            return results
        other = fit_beside(other, results['img'].shape[:2], self.img_scale, self.ratio_range, self.flip_ratio,
                           self.pad_val, self.bbox_clip_border)
        return mix_up(results, other, self.bbox_clip_border)


@TRANSFORMS.register
class RandomAffine(BaseTransform):
    """Rotate, scale, shear and shift the image about its corner, each by a random amount; then cut or pad it.

    The matrix is shift * shear * rotation * scale. A box becomes the least upright one around its four moved corners.

    Args:
        max_rotate_degree: the most that is rotated, either way, in degrees.
        max_translate_ratio: the most that is shifted, as a part of the result's sides.
        scaling_ratio_range: of the scale.
        max_shear_degree: the most that is sheared along each axis, in degrees.
        border: (x, y) in pixels that the result has more on each side; negative cuts, as after a mosaic.
        border_val: what fills the result where there is no image.
        bbox_clip_border: cut boxes to the image.
    """

    def __init__(self, max_rotate_degree: float = 10.0, max_translate_ratio: float = 0.1,
                 scaling_ratio_range: tuple[float, float] = (0.5, 1.5), max_shear_degree: float = 2.0,
                 border: tuple[int, int] = (0, 0), border_val: Sequence[float] = (114, 114, 114),
                 bbox_clip_border: bool = True) -> None:
        if not 0 <= max_translate_ratio <= 1:
            raise ConfigError(f'RandomAffine.max_translate_ratio: 0 to 1 is wanted; found {max_translate_ratio!r}')
        if not 0 < scaling_ratio_range[0] <= scaling_ratio_range[1]:
            raise ConfigError(f'RandomAffine.scaling_ratio_range: (least, greatest), above 0; found '
                              f'{scaling_ratio_range!r}')
        self.max_rotate_degree = max_rotate_degree
        self.max_translate_ratio = max_translate_ratio
        self.scaling_ratio_range = scaling_ratio_range
        self.max_shear_degree = max_shear_degree
        self.border = border
        self.border_val = tuple(map(float, border_val))
        self.bbox_clip_border = bbox_clip_border

    def transform(self, results: Results) -> Results:
        if results.get('gt_masks') is not None or results.get('gt_seg_map') is not None:
            raise ConfigError('RandomAffine moves images and boxes; it knows no masks and no semantic maps')
        shape = results['img'].shape[0] + 2 * self.border[1], results['img'].shape[1] + 2 * self.border[0]
        matrix = self.matrix(shape)
        results['img'] = cv2.warpPerspective(results['img'], matrix, (shape[1], shape[0]), borderValue=self.border_val)
        results['img_shape'] = shape
        boxes = results.get('gt_bboxes')
        if boxes is None or len(boxes) == 0:
            return results
        boxes = move_boxes(boxes, matrix)
        results['gt_bboxes'] = clip_boxes(boxes, shape) if self.bbox_clip_border else boxes
        return keep_instances(results, boxes_inside(boxes, shape))

    def matrix(self, shape: tuple[int, int]) -> np.ndarray:
        """A random (3, 3) matrix from the image's pixels to those of a result of `shape` (h, w)."""
        uniform = random.uniform
        angle = math.radians(uniform(-self.max_rotate_degree, self.max_rotate_degree))
        scale = uniform(*self.scaling_ratio_range)
        shear_x, shear_y = (math.tan(math.radians(uniform(-self.max_shear_degree, self.max_shear_degree)))
                            for _ in range(2))
        x, y = (uniform(-self.max_translate_ratio, self.max_translate_ratio) * side for side in (shape[1], shape[0]))
        cos, sin = math.cos(angle), math.sin(angle)
        return (np.array([[1, 0, x], [0, 1, y], [0, 0, 1]]) @ np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
                @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ np.diag([scale, scale, 1])).astype(np.float32)


def move_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(G, 4) boxes around the corners of `boxes` after an affine (3, 3) matrix."""
    corners = np.stack([boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]], np.ones((len(boxes), 4))], -1)    # (G, 4, 3)
    moved = (corners @ matrix.T)[..., :2]
    return np.concatenate([moved.min(1), moved.max(1)], -1).astype(np.float32)


def _others(results: Results, count: int, name: str) -> list[Results]:
    others = results.get('mix_results')
    if others is None or len(others) != count:
        raise ConfigError(f'{name} needs {count} other image{"s" if count > 1 else ""}: wrap the data set in '
                          'MultiImageMixDataset and put this transform into its pipeline')
    for one in (results, *others):
        check_mixable(one, name)
    return list(others)
