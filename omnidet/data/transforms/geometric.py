"""Resizing, flipping, cropping and padding of an image together with its boxes, masks and semantic map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from omnidet.data.masks import FLIP_AXES, rescaled_size
from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS

INTERPOLATION = {'nearest': cv2.INTER_NEAREST, 'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC,
                 'area': cv2.INTER_AREA, 'lanczos': cv2.INTER_LANCZOS4}


def resize_image(image: np.ndarray, shape: tuple[int, int], interpolation: str = 'bilinear',
                 backend: str = 'cv2') -> np.ndarray:
    """Stretch `image` to `shape` (h, w); the same object where it has that size."""
    if image.shape[:2] == tuple(shape):
        return image
    if backend == 'pillow':
        from PIL import Image
        mode = {'nearest': 0, 'lanczos': 1, 'bilinear': 2, 'bicubic': 3, 'area': 4}[interpolation]
        return np.array(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling(mode)))
    return cv2.resize(image, (shape[1], shape[0]), interpolation=INTERPOLATION[interpolation])


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(G, 4) xyxy boxes cut to an image of `shape` (h, w)."""
    h, w = shape
    return np.clip(boxes, 0, np.array([w, h, w, h], boxes.dtype))


def boxes_inside(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(G,) bool, True for a box of which some part lies in an image of `shape` (h, w)."""
    h, w = shape
    return (boxes[:, 0] < w) & (boxes[:, 1] < h) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def flip_boxes(boxes: np.ndarray, shape: tuple[int, int], direction: str) -> np.ndarray:
    """(G, 4) xyxy boxes mirrored in an image of `shape` (h, w)."""
    h, w = shape
    out = boxes.copy()
    if direction in ('horizontal', 'diagonal'):
        out[:, 0], out[:, 2] = w - boxes[:, 2], w - boxes[:, 0]
    if direction in ('vertical', 'diagonal'):
        out[:, 1], out[:, 3] = h - boxes[:, 3], h - boxes[:, 1]
    return out


def flip_image(image: np.ndarray, direction: str) -> np.ndarray:
    """(h, w[, C]) mirrored."""
    return cv2.flip(image, {'horizontal': 1, 'vertical': 0, 'diagonal': -1}[direction])


def pad_image(image: np.ndarray, shape: tuple[int, int], value: Any, mode: str = 'constant') -> np.ndarray:
    """Enlarge `image` at the right and bottom to `shape` (h, w); the same object where it is as large."""
    bottom, right = max(shape[0] - image.shape[0], 0), max(shape[1] - image.shape[1], 0)
    if not bottom and not right:
        return image
    border = {'constant': cv2.BORDER_CONSTANT, 'edge': cv2.BORDER_REPLICATE, 'reflect': cv2.BORDER_REFLECT_101,
              'symmetric': cv2.BORDER_REFLECT}[mode]
    value = tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),) * 4
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, border, value=value)


@TRANSFORMS.register
class Resize(BaseTransform):
    """Resize to a scale, or by a factor.

    Sets `img_shape`, `scale`, `scale_factor` (width, height) and `keep_ratio`.

    Args:
        scale: (w, h), or one length for both. With `keep_ratio` the longer of the two bounds the long side of the
            image, the shorter one the short side.
        scale_factor: in place of `scale`, a factor or (width factor, height factor).
        keep_ratio: keep the ratio of the sides.
        clip_object_border: cut boxes to the image.
        backend: 'cv2' or 'pillow'.
        interpolation: 'nearest', 'bilinear', 'bicubic', 'area' or 'lanczos'.
    """

    def __init__(self, scale: int | tuple[int, int] | None = None,
                 scale_factor: float | tuple[float, float] | None = None, keep_ratio: bool = False,
                 clip_object_border: bool = True, backend: str = 'cv2', interpolation: str = 'bilinear') -> None:
        if (scale is None) == (scale_factor is None):
            raise ConfigError('Resize: give one of scale and scale_factor')
        self.scale = None if scale is None else _pair(scale, 'Resize.scale')
        self.scale_factor = None if scale_factor is None else _pair(scale_factor, 'Resize.scale_factor')
        self.keep_ratio = keep_ratio
        self.clip_object_border = clip_object_border
        self.backend = _check(backend, ('cv2', 'pillow'), 'Resize.backend')
        self.interpolation = _check(interpolation, INTERPOLATION, 'Resize.interpolation')

    def transform(self, results: Results) -> Results:
        h, w = results['img'].shape[:2]
        if self.scale is not None:
            scale = self.scale
        else:
            assert self.scale_factor is not None
            scale = int(w * self.scale_factor[0] + 0.5), int(h * self.scale_factor[1] + 0.5)
        shape = rescaled_size(h, w, scale) if self.keep_ratio else (int(scale[1]), int(scale[0]))
        results['scale'] = scale
        return resize(results, shape, self.keep_ratio, self.clip_object_border, self.backend, self.interpolation)


@TRANSFORMS.register
class FixScaleResize(BaseTransform):
    """`Resize` that rounds the new sides down, as Grounding DINO and GLIP were trained. Arguments as there."""

    def __init__(self, scale: int | tuple[int, int] | None = None,
                 scale_factor: float | tuple[float, float] | None = None, keep_ratio: bool = False,
                 clip_object_border: bool = True, backend: str = 'cv2', interpolation: str = 'bilinear') -> None:
        self.inner = Resize(scale, scale_factor, keep_ratio, clip_object_border, backend, interpolation)

    def transform(self, results: Results) -> Results:
        inner = self.inner
        if not inner.keep_ratio or inner.scale is None:
            return inner.transform(results)
        h, w = results['img'].shape[:2]
        factor = min(max(inner.scale) / max(h, w), min(inner.scale) / min(h, w))
        results['scale'] = inner.scale
        return resize(results, (int(h * factor), int(w * factor)), True, inner.clip_object_border, inner.backend,
                      inner.interpolation)


def resize(results: Results, shape: tuple[int, int], keep_ratio: bool = True, clip: bool = True, backend: str = 'cv2',
           interpolation: str = 'bilinear') -> Results:
    """Stretch the image of `results`, and all that lies on it, to `shape` (h, w)."""
    h, w = results['img'].shape[:2]
    results['img'] = resize_image(results['img'], shape, interpolation, backend)
    results['img_shape'] = shape
    results['scale_factor'] = (shape[1] / w, shape[0] / h)
    results['keep_ratio'] = keep_ratio
    if results.get('gt_bboxes') is not None:
        boxes = results['gt_bboxes'] * np.array(results['scale_factor'] * 2, np.float32)
        results['gt_bboxes'] = clip_boxes(boxes, shape) if clip else boxes
    if results.get('gt_masks') is not None:
        results['gt_masks'] = results['gt_masks'].resize(shape)
    if results.get('gt_seg_map') is not None:
        results['gt_seg_map'] = resize_image(results['gt_seg_map'], shape, 'nearest')
    return results


@TRANSFORMS.register
class RandomResize(BaseTransform):
    """Resize to a random scale: within a range of factors of `scale`, or between two scales.

    Args:
        scale: (w, h) where `ratio_range` is given, otherwise two of them to draw between.
        ratio_range: the least and the greatest factor.
        resize_type: the transform that resizes.
        keep_ratio: keep the ratio of the sides.
        clip_object_border, backend, interpolation: as Resize.
    """

    def __init__(self, scale: Sequence[Any], ratio_range: tuple[float, float] | None = None,
                 resize_type: str = 'Resize', keep_ratio: bool = False, clip_object_border: bool = True,
                 backend: str = 'cv2', interpolation: str = 'bilinear') -> None:
        if (ratio_range is None) != isinstance(scale[0], Sequence):
            raise ConfigError('RandomResize: give two scales, or one scale and a ratio_range')
        self.scale = scale
        self.ratio_range = ratio_range
        self.resize_type = TRANSFORMS.get(resize_type)
        self.kwargs = dict(keep_ratio=keep_ratio, clip_object_border=clip_object_border, backend=backend,
                           interpolation=interpolation)

    def transform(self, results: Results) -> Any:
        if self.ratio_range is not None:
            low, high = self.ratio_range
            ratio = np.random.random_sample() * (high - low) + low
            scale = int(self.scale[0] * ratio), int(self.scale[1] * ratio)
        else:
            longs, shorts = [max(s) for s in self.scale], [min(s) for s in self.scale]
            scale = (np.random.randint(min(longs), max(longs) + 1), np.random.randint(min(shorts), max(shorts) + 1))
        return self.resize_type(scale=scale, **self.kwargs).transform(results)


@TRANSFORMS.register
class RandomChoiceResize(BaseTransform):
    """Resize to one of several scales.

    Args:
        scales: (w, h) or single lengths.
        resize_type: the transform that resizes.
        keep_ratio: keep the ratio of the sides.
        clip_object_border, backend, interpolation: as Resize.
    """

    def __init__(self, scales: Sequence[Any], resize_type: str = 'Resize', keep_ratio: bool = False,
                 clip_object_border: bool = True, backend: str = 'cv2', interpolation: str = 'bilinear') -> None:
        kwargs = dict(keep_ratio=keep_ratio, clip_object_border=clip_object_border, backend=backend,
                      interpolation=interpolation)
        self.resizes = [TRANSFORMS.build(dict(type=resize_type, scale=scale), **kwargs) for scale in scales]

    def transform(self, results: Results) -> Any:
        index = int(np.random.choice(len(self.resizes)))
        results['scale_idx'] = index
        return self.resizes[index].transform(results)


@TRANSFORMS.register
class RandomFlip(BaseTransform):
    """Mirror with a probability; sets `flip` and `flip_direction`.

    Args:
        prob: the probability of flipping, shared among the directions; or one for each direction.
        direction: 'horizontal', 'vertical' or 'diagonal', or several to draw from.
    """

    def __init__(self, prob: float | Sequence[float] | None = None,
                 direction: str | Sequence[str] = 'horizontal') -> None:
        directions = [direction] if isinstance(direction, str) else list(direction)
        for d in directions:
            _check(d, FLIP_AXES, 'RandomFlip.direction')
        probs = [float(p) for p in prob] if isinstance(prob, Sequence) \
            else [float(prob or 0) / len(directions)] * len(directions)
        if len(probs) != len(directions) or min(probs) < 0 or sum(probs) > 1 + 1e-9:
            raise ConfigError(f'RandomFlip.prob: {prob!r} gives no probabilities for {directions}')
        self.directions = directions
        self.bounds = np.cumsum(probs)

    def transform(self, results: Results) -> Results:
        picked = int(np.searchsorted(self.bounds, np.random.random_sample(), side='right'))
        results['flip'] = picked < len(self.directions)
        results['flip_direction'] = self.directions[picked] if results['flip'] else None
        return flip(results, self.directions[picked]) if results['flip'] else results


def flip(results: Results, direction: str) -> Results:
    """Mirror the image of `results`, and all that lies on it."""
    shape = results['img'].shape[:2]
    results['img'] = flip_image(results['img'], direction)
    if results.get('gt_bboxes') is not None:
        results['gt_bboxes'] = flip_boxes(results['gt_bboxes'], shape, direction)
    if results.get('gt_masks') is not None:
        results['gt_masks'] = results['gt_masks'].flip(direction)
    if results.get('gt_seg_map') is not None:
        results['gt_seg_map'] = flip_image(results['gt_seg_map'], direction)
    return results


@TRANSFORMS.register
class RandomCrop(BaseTransform):
    """Cut out a part of the image at a random place; drop the image where no box is left in it.

    Args:
        crop_size: (w, h); for 'absolute_range' the least and the greatest length of a side.
        crop_type: 'absolute' (pixels), 'absolute_range' (pixels, drawn), 'relative' (fractions of the image),
            'relative_range' (fractions, drawn from those up to 1).
        allow_negative_crop: keep the image where no box is left.
        recompute_bbox: take boxes anew from the masks.
        bbox_clip_border: cut boxes to the part.
    """

    def __init__(self, crop_size: tuple[float, float], crop_type: str = 'absolute', allow_negative_crop: bool = False,
                 recompute_bbox: bool = False, bbox_clip_border: bool = True) -> None:
        _check(crop_type, ('absolute', 'absolute_range', 'relative', 'relative_range'), 'RandomCrop.crop_type')
        size = _pair(crop_size, 'RandomCrop.crop_size')
        if min(size) <= 0 or (crop_type.startswith('relative') and max(size) > 1):
            raise ConfigError(f'RandomCrop.crop_size: {crop_size!r} does not fit crop_type {crop_type!r}')
        if crop_type == 'absolute_range' and size[0] > size[1]:
            raise ConfigError(f'RandomCrop.crop_size: the range {crop_size!r} runs downwards')
        self.crop_size = size
        self.crop_type = crop_type
        self.allow_negative_crop = allow_negative_crop
        self.recompute_bbox = recompute_bbox
        self.bbox_clip_border = bbox_clip_border

    def transform(self, results: Results) -> Results | None:
        h, w = results['img'].shape[:2]
        crop_h, crop_w = self._size(h, w)
        y = np.random.randint(0, h - crop_h + 1)
        x = np.random.randint(0, w - crop_w + 1)
        return self._crop(results, (x, y, x + crop_w, y + crop_h))

    def _size(self, h: int, w: int) -> tuple[int, int]:
        a, b = self.crop_size
        if self.crop_type == 'absolute':
            return min(int(b), h), min(int(a), w)
        if self.crop_type == 'absolute_range':
            return (np.random.randint(min(h, int(a)), min(h, int(b)) + 1),
                    np.random.randint(min(w, int(a)), min(w, int(b)) + 1))
        if self.crop_type == 'relative_range':
            a, b = a + np.random.rand() * (1 - a), b + np.random.rand() * (1 - b)
        return max(int(h * b + 0.5), 1), max(int(w * a + 0.5), 1)

    def _crop(self, results: Results, window: tuple[int, int, int, int]) -> Results | None:
        x1, y1, x2, y2 = window
        shape = (y2 - y1, x2 - x1)
        results['img'] = results['img'][y1:y2, x1:x2]
        results['img_shape'] = shape
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = results['gt_seg_map'][y1:y2, x1:x2]
        if results.get('gt_bboxes') is None:
            return results
        boxes = results['gt_bboxes'] - np.array([x1, y1, x1, y1], np.float32)
        boxes = clip_boxes(boxes, shape) if self.bbox_clip_border else boxes
        keep = boxes_inside(boxes, shape)
        if not keep.any() and not self.allow_negative_crop:
            return None
        results['gt_bboxes'] = boxes
        results = keep_instances(results, keep)
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].crop(window)
            if self.recompute_bbox:
                results['gt_bboxes'] = results['gt_masks'].get_bboxes()
        return results


@TRANSFORMS.register
class Pad(BaseTransform):
    """Enlarge the image at the right and bottom; sets `pad_shape`, and `img_shape` to the same.

    Args:
        size: (w, h) to pad to; a side that is longer already stays.
        size_divisor: pad to a multiple of this.
        pad_to_square: pad to the longer side.
        pad_val: the value to fill with; or dict(img=..., seg=..., masks=...), a number or one for each channel.
        padding_mode: 'constant', 'edge', 'reflect' or 'symmetric'.
    """

    def __init__(self, size: tuple[int, int] | None = None, size_divisor: int | None = None,
                 pad_to_square: bool = False, pad_val: Any = 0, padding_mode: str = 'constant') -> None:
        if size is None and size_divisor is None and not pad_to_square:
            raise ConfigError('Pad: give size, size_divisor or pad_to_square')
        if size is not None and (size_divisor is not None or pad_to_square):
            raise ConfigError('Pad: size stands alone, without size_divisor and pad_to_square')
        _check(padding_mode, ('constant', 'edge', 'reflect', 'symmetric'), 'Pad.padding_mode')
        values = dict(pad_val) if isinstance(pad_val, Mapping) else dict(img=pad_val)
        self.size = size
        self.size_divisor = size_divisor
        self.pad_to_square = pad_to_square
        self.pad_val = dict(dict(img=0, seg=255, masks=0), **values)
        self.padding_mode = padding_mode

    def transform(self, results: Results) -> Results:
        h, w = results['img'].shape[:2]
        if self.size is not None:
            w, h = max(self.size[0], w), max(self.size[1], h)
        if self.pad_to_square:
            h = w = max(h, w)
        if self.size_divisor is not None:
            h, w = (math.ceil(x / self.size_divisor) * self.size_divisor for x in (h, w))
        results['img'] = pad_image(results['img'], (h, w), self.pad_val['img'], self.padding_mode)
        results['img_shape'] = results['pad_shape'] = (h, w)
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = pad_image(results['gt_seg_map'], (h, w), self.pad_val['seg'], self.padding_mode)
        if results.get('gt_masks') is not None:
            results['gt_masks'] = results['gt_masks'].pad((h, w), self.pad_val['masks'])
        return results


def _pair(value: Any, name: str) -> tuple[Any, Any]:
    if isinstance(value, (int, float)):
        return value, value
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
        return value[0], value[1]
    raise ConfigError(f'{name}: a number or two are wanted; found {value!r}')


def _check(value: str, allowed: Any, name: str) -> str:
    if value not in allowed:
        raise ConfigError(f'{name}: {value!r} is none of {", ".join(map(repr, allowed))}')
    return value
