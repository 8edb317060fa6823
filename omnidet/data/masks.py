"""Instance masks of one image, as polygons or as bitmaps, and what a transform does to them.

Both classes answer to the same methods, so a transform need not know which it holds. Polygons are cheap to transform
and stay exact; bitmaps hold everything. Methods give a new object; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

Polygons = list[np.ndarray]


class PolygonMasks:
    """Instances as polygons.

    Args:
        masks: for each instance its parts, each (2P,) or (P, 2): x, y, x, y, ... in pixels. An instance may have none.
        height, width: the size of the image.
    """

    def __init__(self, masks: Iterable[Iterable[Any]], height: int, width: int) -> None:
        self.masks: list[Polygons] = [[np.asarray(part, np.float64).reshape(-1) for part in parts] for parts in masks]
        self.height = int(height)
        self.width = int(width)

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[Polygons]:
        return iter(self.masks)

    def __getitem__(self, index: Any) -> PolygonMasks:
        """Some of the instances: an int, a slice, a bool mask (G,) or indices."""
        picked = np.atleast_1d(np.arange(len(self))[index])
        return PolygonMasks([self.masks[i] for i in picked], self.height, self.width)

    @property
    def areas(self) -> np.ndarray:
        """(G,) pixels inside the polygons, parts added."""
        return np.array([sum(_polygon_area(part) for part in parts) for parts in self.masks], np.float64)

    def get_bboxes(self) -> np.ndarray:
        """(G, 4) float32, the xyxy boxes around the polygons; zeros for an instance without parts."""
        boxes = np.zeros((len(self), 4), np.float32)
        for box, parts in zip(boxes, self.masks, strict=True):
            if parts:
                points = np.concatenate(parts).reshape(-1, 2)
                box[:2], box[2:] = points.min(axis=0), points.max(axis=0)
        return boxes

    def rescale(self, scale: float | tuple[int, int], interpolation: str | None = None) -> PolygonMasks:
        """Resize with the ratio of the sides kept; `scale` as for an image."""
        return self.resize(rescaled_size(self.height, self.width, scale))

    def resize(self, out_shape: tuple[int, int], interpolation: str | None = None) -> PolygonMasks:
        """Stretch to `out_shape` (h, w)."""
        h, w = out_shape
        factor = np.array([w / self.width, h / self.height])
        return self._map(lambda points: points * factor, h, w)

    def flip(self, flip_direction: str = 'horizontal') -> PolygonMasks:
        """Mirror: 'horizontal', 'vertical' or 'diagonal' (both)."""
        size, sign = np.zeros(2), np.ones(2)
        if flip_direction in ('horizontal', 'diagonal'):
            size[0], sign[0] = self.width, -1
        if flip_direction in ('vertical', 'diagonal'):
            size[1], sign[1] = self.height, -1
        return self._map(lambda points: size + sign * points, self.height, self.width)

    def crop(self, bbox: Sequence[int] | np.ndarray) -> PolygonMasks:
        """What lies inside the box `bbox` (4,) xyxy, seen from its corner; the box is cut to the image first."""
        x1, y1, x2, y2 = _inside(bbox, self.height, self.width)
        return self.shift(-x1, -y1, (max(y2 - y1, 1), max(x2 - x1, 1)))

    def shift(self, x: float, y: float, out_shape: tuple[int, int]) -> PolygonMasks:
        """Moved by (x, y) pixels into an image of `out_shape` (h, w), and cut at its border."""
        h, w = out_shape
        offset = np.array([x, y], np.float64)
        masks = [[cut for part in parts if len(cut := clip_polygon(part.reshape(-1, 2) + offset, w, h))]
                 for parts in self.masks]
        return PolygonMasks(masks, h, w)

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> PolygonMasks:
        """Enlarge the image at the right and bottom to `out_shape` (h, w)."""
        return PolygonMasks(self.masks, *out_shape)

    def translate(self, out_shape: tuple[int, int], offset: float, direction: str = 'horizontal',
                  border_value: int = 0, interpolation: str = 'bilinear') -> PolygonMasks:
        """Moved by `offset` pixels along `direction`, as `shift`; the last two arguments are accepted."""
        x, y = (offset, 0.0) if direction == 'horizontal' else (0.0, offset)
        return self.shift(x, y, out_shape)

    def to_ndarray(self) -> np.ndarray:
        """(G, h, w) uint8, 1 inside."""
        masks = [polygons_to_bitmap(parts, self.height, self.width) for parts in self.masks]
        return np.stack(masks) if masks else np.zeros((0, self.height, self.width), np.uint8)

    def to_bitmap(self) -> BitmapMasks:
        return BitmapMasks(self.to_ndarray(), self.height, self.width)

    @classmethod
    def cat(cls, masks: Sequence[PolygonMasks]) -> PolygonMasks:
        """The instances of several, one after another; the image's size is the first one's."""
        return cls([parts for m in masks for parts in m.masks], masks[0].height, masks[0].width)

    def _map(self, f: Any, height: int, width: int) -> PolygonMasks:
        masks = [[f(part.reshape(-1, 2)).reshape(-1) for part in parts] for parts in self.masks]
        return PolygonMasks(masks, height, width)


class BitmapMasks:
    """Instances as bitmaps.

    Args:
        masks: (G, h, w) of 0 and 1, or a sequence of (h, w).
        height, width: the size of the image.
    """

    def __init__(self, masks: np.ndarray | Sequence[np.ndarray], height: int, width: int) -> None:
        self.masks = np.asarray(masks, np.uint8).reshape(-1, int(height), int(width))
        self.height = int(height)
        self.width = int(width)

    @classmethod
    def from_annotations(cls, masks: Sequence[Any], height: int, width: int) -> BitmapMasks:
        """Rasterise annotations: for each instance polygons, an RLE dict, or None for no mask."""
        out = np.zeros((len(masks), height, width), np.uint8)
        for bitmap, mask in zip(out, masks, strict=True):
            if isinstance(mask, Mapping):
                decoded = decode_rle(mask)
                h, w = min(height, decoded.shape[0]), min(width, decoded.shape[1])
                bitmap[:h, :w] = decoded[:h, :w]
            elif mask is not None:
                bitmap[:] = polygons_to_bitmap(mask, height, width)
        return cls(out, height, width)

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.masks)

    def __getitem__(self, index: Any) -> BitmapMasks:
        """Some of the instances: an int, a slice, a bool mask (G,) or indices."""
        return BitmapMasks(self.masks[index], self.height, self.width)

    @property
    def areas(self) -> np.ndarray:
        """(G,) pixels that are set."""
        return self.masks.sum(axis=(1, 2), dtype=np.int64)

    def get_bboxes(self) -> np.ndarray:
        """(G, 4) float32, the xyxy boxes around the pixels that are set; zeros for an empty mask."""
        boxes = np.zeros((len(self), 4), np.float32)
        for box, mask in zip(boxes, self.masks, strict=True):
            x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
            if len(x):
                box[:] = x[0], y[0], x[-1] + 1, y[-1] + 1
        return boxes

    def rescale(self, scale: float | tuple[int, int], interpolation: str = 'nearest') -> BitmapMasks:
        """Resize with the ratio of the sides kept; `scale` as for an image."""
        return self.resize(rescaled_size(self.height, self.width, scale), interpolation)

    def resize(self, out_shape: tuple[int, int], interpolation: str = 'nearest') -> BitmapMasks:
        """Stretch to `out_shape` (h, w), nearest pixel by default, or 'bilinear'."""
        h, w = out_shape
        if (h, w) == (self.height, self.width):
            return self
        flag = cv2.INTER_NEAREST if interpolation == 'nearest' else cv2.INTER_LINEAR
        out = np.zeros((len(self), h, w), np.uint8)
        for bitmap, mask in zip(out, self.masks, strict=True):
            bitmap[:] = cv2.resize(mask, (w, h), interpolation=flag)
        return BitmapMasks(out, h, w)

    def flip(self, flip_direction: str = 'horizontal') -> BitmapMasks:
        """Mirror: 'horizontal', 'vertical' or 'diagonal' (both)."""
        return BitmapMasks(np.flip(self.masks, FLIP_AXES[flip_direction]), self.height, self.width)

    def crop(self, bbox: Sequence[int] | np.ndarray) -> BitmapMasks:
        """What lies inside the box `bbox` (4,) xyxy, seen from its corner; the box is cut to the image first."""
        x1, y1, x2, y2 = _inside(bbox, self.height, self.width)
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        return BitmapMasks(self.masks[:, y1:y2, x1:x2], y2 - y1, x2 - x1)

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        """Enlarge the image at the right and bottom to `out_shape` (h, w)."""
        h, w = out_shape
        if (h, w) == (self.height, self.width):
            return self
        out = np.full((len(self), h, w), pad_val, np.uint8)
        out[:, :self.height, :self.width] = self.masks
        return BitmapMasks(out, h, w)

    def translate(self, out_shape: tuple[int, int], offset: float, direction: str = 'horizontal',
                  border_value: int = 0, interpolation: str = 'bilinear') -> BitmapMasks:
        """Moved by `offset` whole pixels along `direction`, as `shift`; `interpolation` is accepted."""
        x, y = (offset, 0.0) if direction == 'horizontal' else (0.0, offset)
        return self.shift(x, y, out_shape, border_value)

    def shift(self, x: float, y: float, out_shape: tuple[int, int], border_value: int = 0) -> BitmapMasks:
        """Moved by (x, y) whole pixels into an image of `out_shape` (h, w), and cut at its border."""
        dx, dy = round(x), round(y)
        h, w = out_shape
        out = np.full((len(self), h, w), border_value, np.uint8)
        x1, y1, x2, y2 = max(dx, 0), max(dy, 0), min(self.width + dx, w), min(self.height + dy, h)
        if x2 > x1 and y2 > y1:
            out[:, y1:y2, x1:x2] = self.masks[:, y1 - dy:y2 - dy, x1 - dx:x2 - dx]
        return BitmapMasks(out, h, w)

    def to_ndarray(self) -> np.ndarray:
        """(G, h, w) uint8, 1 inside."""
        return self.masks

    def to_bitmap(self) -> BitmapMasks:
        return self

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        """The instances of several, one after another."""
        return cls(np.concatenate([m.masks for m in masks]), masks[0].height, masks[0].width)


FLIP_AXES = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


def rescaled_size(height: int, width: int, scale: float | tuple[float, float]) -> tuple[int, int]:
    """The (h, w) of an image that is resized with the ratio of its sides kept.

    Args:
        height, width: the image's size.
        scale: a factor, or two lengths in any order: the most that the long and the short side may have.
    """
    if isinstance(scale, (int, float)):
        factor = float(scale)
    else:
        factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def clip_polygon(polygon: np.ndarray, width: float, height: float) -> np.ndarray:
    """Cut a polygon to the rectangle from (0, 0) to (width, height), side by side (Sutherland and Hodgman, 1974).

    Args:
        polygon: (2P,) x, y, x, y, ..., or (P, 2).

    Returns:
        (2Q,); empty where nothing but an edge is left.
    """
    points = polygon.reshape(-1, 2)
    for axis, bound, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        depth = (points[:, axis] - bound) * sign    # (P,) how far inside this side
        if len(points) == 0 or (depth >= 0).all():
            continue
        nxt, nxt_depth = np.roll(points, -1, axis=0), np.roll(depth, -1)
        crosses = (depth >= 0) != (nxt_depth >= 0)
        t = depth / np.where(crosses, depth - nxt_depth, 1.0)
        both = np.stack([points, points + t[:, None] * (nxt - points)], axis=1)    # (P, 2, 2) a corner, then a crossing
        points = both[np.stack([depth >= 0, crosses], axis=1)]
    flat = points.reshape(-1)
    return flat if len(points) >= 3 and _polygon_area(flat) > 0 else flat[:0]


def polygons_to_bitmap(polygons: Sequence[Any], height: int, width: int) -> np.ndarray:
    """(h, w) uint8 bitmap of an instance's polygons, with COCO's rule for the pixels on the edge."""
    parts = [np.asarray(part, np.float64).reshape(-1).tolist() for part in polygons if len(part) >= 3]
    parts = [part for part in parts if len(part) >= 6]
    if not parts:
        return np.zeros((height, width), np.uint8)
    from faster_coco_eval.core import mask as coco_mask
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, height, width)))


def decode_rle(rle: Mapping[str, Any]) -> np.ndarray:
    """A COCO run-length encoding as a bitmap.

    Args:
        rle: `size` (h, w) and `counts`: lengths of runs of 0, 1, 0, ... down the columns, or their compressed string.

    Returns:
        (h, w) uint8.

    Raises:
        ValueError: the runs do not add up to the size.
    """
    h, w = rle['size']
    counts = rle['counts']
    runs = uncompress_counts(counts) if isinstance(counts, (str, bytes)) else np.asarray(counts, np.int64)
    if (len(runs) and runs.min() < 0) or runs.sum() != h * w:
        raise ValueError(f'the runs of a mask of {h} x {w} add up to {runs.sum()}')
    flat = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs)
    return np.ascontiguousarray(flat.reshape(w, h).T)


def uncompress_counts(text: str | bytes) -> np.ndarray:
    """The run lengths of COCO's compressed string.

    Each number is written in groups of five bits, lowest first, one character (from '0') for each; a sixth bit says
    that more follow, and the fifth bit of the last is the sign. From the fourth number on, each is the difference to
    the last but one.
    """
    data = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    if not len(data):
        return data
    ends = np.flatnonzero((data & 0x20) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    data = data[:lengths.sum()]
    place = np.arange(len(data)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((data & 0x1F) << (5 * place), starts)
    numbers -= np.where(data[ends] & 0x10, 1 << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _polygon_area(polygon: np.ndarray) -> float:
    x, y = polygon[0::2], polygon[1::2]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _inside(bbox: Sequence[int] | np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    x1, x2 = np.clip([bbox[0], bbox[2]], 0, width)
    y1, y2 = np.clip([bbox[1], bbox[3]], 0, height)
    return int(x1), int(y1), int(x2), int(y2)
