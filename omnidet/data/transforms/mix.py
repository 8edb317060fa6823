"""Several images in one: mosaic and mix-up, with the other images taken from a memory of those seen before."""

from __future__ import annotations

import random
from collections.abc import Sequence

import cv2
import numpy as np

from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.data.transforms.geometric import boxes_inside, clip_boxes, flip_boxes, flip_image, pad_image, resize_image
from omnidet.errors import ConfigError
from omnidet.registry import TRANSFORMS

REMEMBERED = ('img', 'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks')


class Memory:
    """The last images that came by.

    Args:
        size: how many to keep.
        random_pop: where there are more, forget one at random, but never the newest; otherwise the oldest.
    """

    def __init__(self, size: int, random_pop: bool) -> None:
        self.size = size
        self.random_pop = random_pop
        self.items: list[Results] = []

    def add(self, results: Results) -> None:
        """Remember the image and its instances. Their arrays are shared, so nothing may change them in place."""
        self.items.append({key: results[key] for key in REMEMBERED if results.get(key) is not None})
        if len(self.items) > self.size:
            self.items.pop(random.randint(0, len(self.items) - 2) if self.random_pop else 0)

    def draw(self) -> Results:
        return self.items[random.randint(0, len(self.items) - 1)]


def _own(results: Results) -> Results:
    """`results` with arrays that a later transform may change in place without changing the memory."""
    return {**results, **{k: results[k].copy() for k in REMEMBERED if isinstance(results.get(k), np.ndarray)}}


def check_mixable(results: Results, name: str) -> None:
    """Refuse what mixing cannot handle.

    Raises:
        ConfigError: there are no boxes, or there is a semantic map.
    """
    if results.get('gt_bboxes') is None or results.get('gt_seg_map') is not None:
        raise ConfigError(f'{name} needs boxes (LoadAnnotations comes first) and knows no semantic maps')


@TRANSFORMS.register
class CachedMosaic(BaseTransform):
    """Put four images around a random centre on a canvas of twice the size (YOLOv4, arXiv:2004.10934; YOLOX).

    The image itself comes to the top left, three remembered ones to the other corners, each resized to `img_scale` with
    the ratio of its sides kept and cut where it leaves the canvas. Fewer than five remembered images: nothing happens.

    Args:
        img_scale: (w, h) of one image; the canvas is twice as wide and high.
        center_ratio_range: the centre, as a factor of `img_scale`, is drawn from this range, for x and y each.
        bbox_clip_border: cut boxes to the canvas.
        pad_val: what fills the canvas where there is no image.
        prob: the probability of a mosaic.
        max_cached_images: how many images to remember.
        random_pop: forget one at random, but never the newest; otherwise the oldest.
    """

    def __init__(self, img_scale: tuple[int, int] = (640, 640), center_ratio_range: tuple[float, float] = (0.5, 1.5),
                 bbox_clip_border: bool = True, pad_val: float = 114.0, prob: float = 1.0, max_cached_images: int = 40,
                 random_pop: bool = True) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError(f'CachedMosaic.prob: a probability is wanted; found {prob!r}')
        if max_cached_images < 5:
            raise ConfigError(f'CachedMosaic.max_cached_images: at least 5 are wanted; found {max_cached_images}')
        self.img_scale = (int(img_scale[0]), int(img_scale[1]))
        self.center_ratio_range = center_ratio_range
        self.bbox_clip_border = bbox_clip_border
        self.pad_val = pad_val
        self.prob = prob
        self.max_cached_images = max_cached_images
        self.memory = Memory(max_cached_images, random_pop)

    def forget(self) -> None:
        """Empty the memory; an epoch begins."""
        self.memory.items.clear()

    def remember(self, results: Results) -> None:
        """Take an image into the memory."""
        check_mixable(results, 'CachedMosaic')
        self.memory.add(results)

    def transform(self, results: Results) -> Results:
        self.remember(results)
        if len(self.memory.items) <= 4 or random.uniform(0, 1) > self.prob:
            return _own(results)
        others = [self.memory.draw() for _ in range(3)]
        return mosaic([results, *others], self.img_scale, self.center_ratio_range, self.pad_val, self.bbox_clip_border)


@TRANSFORMS.register
class CachedMixUp(BaseTransform):
    """Lay a remembered image over this one, both at half strength, and keep both's boxes (arXiv:1710.09412; YOLOX).

    The other image is resized into `img_scale` with the ratio of its sides kept, resized again by a random factor,
    flipped with a probability, and padded or cut at random to this image's size.

    Args:
        img_scale: (w, h) of the other image before the random factor.
        ratio_range: the random factor's range.
        flip_ratio: the probability of mirroring the other image.
        pad_val: what fills up the other image; a number, or one for each channel.
        max_iters: how often to draw for an image that has boxes.
        bbox_clip_border: cut boxes to the image.
        max_cached_images: how many images to remember.
        random_pop: forget one at random, but never the newest; otherwise the oldest.
        prob: the probability of a mix-up.
    """

    def __init__(self, img_scale: tuple[int, int] = (640, 640), ratio_range: tuple[float, float] = (0.5, 1.5),
                 flip_ratio: float = 0.5, pad_val: float | Sequence[float] = 114.0, max_iters: int = 15,
                 bbox_clip_border: bool = True, max_cached_images: int = 20, random_pop: bool = True,
                 prob: float = 1.0) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError(f'CachedMixUp.prob: a probability is wanted; found {prob!r}')
        if max_cached_images < 2:
            raise ConfigError(f'CachedMixUp.max_cached_images: at least 2 are wanted; found {max_cached_images}')
        self.img_scale = (int(img_scale[0]), int(img_scale[1]))
        self.ratio_range = ratio_range
        self.flip_ratio = flip_ratio
        self.pad_val = pad_val
        self.max_iters = max_iters
        self.bbox_clip_border = bbox_clip_border
        self.max_cached_images = max_cached_images
        self.prob = prob
        self.memory = Memory(max_cached_images, random_pop)

    def forget(self) -> None:
        """Empty the memory; an epoch begins."""
        self.memory.items.clear()

    def remember(self, results: Results) -> None:
        """Take an image into the memory."""
        check_mixable(results, 'CachedMixUp')
        self.memory.add(results)

    def transform(self, results: Results) -> Results:
        self.remember(results)
        if len(self.memory.items) <= 1 or random.uniform(0, 1) > self.prob:
            return _own(results)
        other = next((o for _ in range(self.max_iters) if len((o := self.memory.draw())['gt_bboxes'])), None)
        if other is None:
            return _own(results)
        return mix_up(results, self._fit(other, results['img'].shape[:2]), self.bbox_clip_border)

    def _fit(self, other: Results, shape: tuple[int, int]) -> Results:
        return fit_beside(other, shape, self.img_scale, self.ratio_range, self.flip_ratio, self.pad_val,
                          self.bbox_clip_border)


def mosaic(parts: Sequence[Results], img_scale: tuple[int, int], center_ratio_range: tuple[float, float],
           pad_val: float, clip: bool) -> Results:
    """Four images around a random centre: the first at the top left, then top right, bottom left, bottom right.

    Args:
        parts: the four; what is no image and no instance comes from the first.
        img_scale: (w, h) of one image; the canvas is twice as wide and high.
        center_ratio_range: of the centre, as a factor of `img_scale`, for x and y each.
        pad_val: what fills the canvas where there is no image.
        clip: cut boxes to the canvas.
    """
    W, H = img_scale
    x = int(random.uniform(*center_ratio_range) * W)
    y = int(random.uniform(*center_ratio_range) * H)
    image = parts[0]['img']
    canvas = np.full((2 * H, 2 * W, *image.shape[2:]), pad_val, image.dtype)
    pasted = [_paste(canvas, part, x, y, n % 2 == 0, n < 2) for n, part in enumerate(parts)]
    return _inside({**parts[0], 'img': canvas, 'img_shape': (2 * H, 2 * W), **_joined(pasted)}, clip)


def _paste(canvas: np.ndarray, part: Results, x: int, y: int, left: bool, top: bool) -> Results:
    """Draw an image with a corner at the centre (x, y); its instances where they are on the canvas."""
    H, W = canvas.shape[0] // 2, canvas.shape[1] // 2
    h, w = part['img'].shape[:2]
    scale = min(H / h, W / w)
    nh, nw = max(int(h * scale), 1), max(int(w * scale), 1)
    x0, y0 = x - nw if left else x, y - nh if top else y    # of the image's corner; may lie off the canvas
    x1, y1, x2, y2 = max(x0, 0), max(y0, 0), min(x0 + nw, 2 * W), min(y0 + nh, 2 * H)
    image = resize_image(part['img'], (nh, nw))
    canvas[y1:y2, x1:x2] = image[y1 - y0:y2 - y0, x1 - x0:x2 - x0]
    out = dict(part)
    factor = np.array([nw / w, nh / h] * 2, np.float32)
    out['gt_bboxes'] = part['gt_bboxes'] * factor + np.array([x0, y0] * 2, np.float32)
    if part.get('gt_masks') is not None:
        out['gt_masks'] = part['gt_masks'].resize((nh, nw)).shift(x0, y0, (2 * H, 2 * W))
    return out


def mix_up(results: Results, other: Results, clip: bool) -> Results:
    """Lay `other`, as `fit_beside` gives it, over the image; boxes are cut to it if `clip`."""
    return _inside({**results, 'img': blend(results['img'], other['img']), 'img_shape': results['img'].shape[:2],
                    **_joined([results, other])}, clip)


def fit_beside(other: Results, shape: tuple[int, int], img_scale: tuple[int, int], ratio_range: tuple[float, float],
               flip_ratio: float, pad_val: float | Sequence[float], clip: bool) -> Results:
    """An image as a mix-up lays it over one of `shape` (h, w); the arguments are those of `CachedMixUp`."""
    W, H = img_scale
    jitter = random.uniform(*ratio_range)
    mirrored = random.uniform(0, 1) < flip_ratio
    h, w = other['img'].shape[:2]
    scale = min(H / h, W / w)
    nh, nw = max(int(h * scale), 1), max(int(w * scale), 1)
    oh, ow = max(int(H * jitter), 1), max(int(W * jitter), 1)
    ph, pw = max(oh, shape[0]), max(ow, shape[1])
    x0, y0 = random.randint(0, pw - shape[1]), random.randint(0, ph - shape[0])

    image = pad_image(resize_image(other['img'], (nh, nw)), (H, W), pad_val)
    image = resize_image(image, (oh, ow))
    image = flip_image(image, 'horizontal') if mirrored else image
    image = pad_image(image, (ph, pw), pad_val)[y0:y0 + shape[0], x0:x0 + shape[1]]

    boxes = other['gt_bboxes'] * np.array([nw / w * ow / W, nh / h * oh / H] * 2, np.float32)
    boxes = clip_boxes(boxes, (oh, ow)) if clip else boxes
    boxes = flip_boxes(boxes, (oh, ow), 'horizontal') if mirrored else boxes
    out = {**other, 'img': image, 'gt_bboxes': boxes - np.array([x0, y0] * 2, np.float32)}
    if other.get('gt_masks') is not None:
        masks = other['gt_masks'].resize((nh, nw)).pad((H, W)).resize((oh, ow))
        out['gt_masks'] = (masks.flip() if mirrored else masks).shift(-x0, -y0, shape)
    return out


def blend(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of two images; rounded down where they are uint8."""
    offset = -0.25 if a.dtype == np.uint8 else 0.0    # OpenCV rounds to the nearest: what ends in .5 goes down
    return cv2.addWeighted(a, 0.5, np.ascontiguousarray(b, a.dtype), 0.5, offset)


def _joined(parts: Sequence[Results]) -> Results:
    """The instances of several images, one after another."""
    out: Results = {key: np.concatenate([p[key] for p in parts])
                    for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags') if key in parts[0]}
    if parts[0].get('gt_masks') is not None:
        masks = [p['gt_masks'] for p in parts]
        if len({type(m) for m in masks}) > 1:    # polygons in one image, RLE in another
            masks = [m.to_bitmap() for m in masks]
        out['gt_masks'] = masks[0].cat(masks)
    return out


def _inside(results: Results, clip: bool) -> Results:
    """`results` without the instances that lie outside the image; boxes cut to it if `clip`."""
    shape = results['img_shape']
    if clip:
        results['gt_bboxes'] = clip_boxes(results['gt_bboxes'], shape)
    keep = boxes_inside(results['gt_bboxes'], shape)
    return results if keep.all() else keep_instances(results, keep)
