"""Instance masks of one image, as polygons or as bitmaps, and what a transform does to them.

Both classes answer to the same methods, so a transform need not know which it holds. Polygons are cheap to transform
and stay exact; bitmaps hold everything. Neither makes a whole image for each instance, unless it is asked for one.
Methods give a new object; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from omnidet.data.outlines import Window, clip_polygon, decode_rle, polygon_area, rasterise, window_of
from omnidet.masks import InstanceMasks

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
        return np.array([sum(polygon_area(part) for part in parts) for parts in self.masks], np.float64)

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
        return self.to_bitmap().to_ndarray()

    def to_bitmap(self) -> BitmapMasks:
        return BitmapMasks.from_annotations(self.masks, self.height, self.width)

    def to_instance_masks(self) -> InstanceMasks:
        """As a model takes them."""
        return self.to_bitmap().to_instance_masks()

    @classmethod
    def cat(cls, masks: Sequence[PolygonMasks]) -> PolygonMasks:
        """The instances of several, one after another; the image's size is the first one's."""
        return cls([parts for m in masks for parts in m.masks], masks[0].height, masks[0].width)

    def _map(self, f: Any, height: int, width: int) -> PolygonMasks:
        masks = [[f(part.reshape(-1, 2)).reshape(-1) for part in parts] for parts in self.masks]
        return PolygonMasks(masks, height, width)


class BitmapMasks:
    """Instances as bitmaps, each kept as the window around it.

    Args:
        masks: (G, h, w) of zero and nonzero, or a sequence of (h, w).
        height, width: the size of the image.

    Attributes:
        windows: for each instance x1, y1, x2, y2 (exclusive), inside the image.
        crops: for each instance the (y2 - y1, x2 - x1) uint8 of 0 and 1 in its window; nothing is set outside.
    """

    def __init__(self, masks: np.ndarray | Sequence[np.ndarray], height: int, width: int) -> None:
        self.height = int(height)
        self.width = int(width)
        dense = np.asarray(masks).reshape(-1, self.height, self.width)
        self._fill(window_of((mask != 0).view(np.uint8)) for mask in dense)

    def _fill(self, pieces: Iterable[tuple[Window, np.ndarray]]) -> None:
        both = list(pieces)
        self.windows = [window for window, _ in both]
        self.crops = [crop for _, crop in both]

    @classmethod
    def from_windows(cls, pieces: Iterable[tuple[Window, np.ndarray]], height: int, width: int) -> BitmapMasks:
        """From the window of each instance and what it holds."""
        out = cls(np.zeros((0, height, width), np.uint8), height, width)
        out._fill(pieces)
        return out

    @classmethod
    def from_annotations(cls, masks: Sequence[Any], height: int, width: int) -> BitmapMasks:
        """Rasterise annotations: for each instance polygons, an RLE dict, or None for no mask."""
        return cls.from_windows((window_of(decode_rle(mask)[:height, :width]) if isinstance(mask, Mapping)
                                 else rasterise(mask or (), height, width) for mask in masks), height, width)

    def __len__(self) -> int:
        return len(self.crops)

    def __iter__(self) -> Iterator[np.ndarray]:
        """One (h, w) after another."""
        for (x1, y1, x2, y2), crop in zip(self.windows, self.crops, strict=True):
            mask = np.zeros((self.height, self.width), np.uint8)
            mask[y1:y2, x1:x2] = crop
            yield mask

    def __getitem__(self, index: Any) -> BitmapMasks:
        """Some of the instances: an int, a slice, a bool mask (G,) or indices."""
        picked = np.atleast_1d(np.arange(len(self))[index])
        return self.from_windows(((self.windows[i], self.crops[i]) for i in picked), self.height, self.width)

    @property
    def masks(self) -> np.ndarray:
        """(G, h, w) uint8, 1 inside; made anew at every reading."""
        return self.to_ndarray()

    @property
    def areas(self) -> np.ndarray:
        """(G,) pixels that are set."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], np.int64)

    def get_bboxes(self) -> np.ndarray:
        """(G, 4) float32, the xyxy boxes around the pixels that are set; zeros for an empty mask."""
        boxes = np.zeros((len(self), 4), np.float32)
        for box, (x1, y1, _, _), crop in zip(boxes, self.windows, self.crops, strict=True):
            (a, b, c, d), inside = window_of(crop)
            if inside.size:
                box[:] = x1 + a, y1 + b, x1 + c, y1 + d
        return boxes

    def rescale(self, scale: float | tuple[int, int], interpolation: str = 'nearest') -> BitmapMasks:
        """Resize with the ratio of the sides kept; `scale` as for an image."""
        return self.resize(rescaled_size(self.height, self.width, scale), interpolation)

    def resize(self, out_shape: tuple[int, int], interpolation: str = 'nearest') -> BitmapMasks:
        """Stretch to `out_shape` (h, w), nearest pixel by default (as OpenCV takes it), or 'bilinear'."""
        h, w = out_shape
        if (h, w) == (self.height, self.width):
            return self
        if interpolation != 'nearest':
            return BitmapMasks([cv2.resize(mask, (w, h), interpolation=cv2.INTER_LINEAR) for mask in self], h, w)
        rows, columns = _nearest(self.height, h), _nearest(self.width, w)

        def stretch(window: Window, crop: np.ndarray) -> tuple[Window, np.ndarray]:
            x1, x2 = np.searchsorted(columns, [window[0], window[2]]).tolist()
            y1, y2 = np.searchsorted(rows, [window[1], window[3]]).tolist()
            return (x1, y1, x2, y2), crop[np.ix_(rows[y1:y2] - window[1], columns[x1:x2] - window[0])]
        return self._map(stretch, h, w)

    def flip(self, flip_direction: str = 'horizontal') -> BitmapMasks:
        """Mirror: 'horizontal', 'vertical' or 'diagonal' (both)."""
        axes, H, W = FLIP_AXES[flip_direction], self.height, self.width

        def mirror(window: Window, crop: np.ndarray) -> tuple[Window, np.ndarray]:
            x1, y1, x2, y2 = window
            x1, x2 = (W - x2, W - x1) if -1 in axes else (x1, x2)
            y1, y2 = (H - y2, H - y1) if -2 in axes else (y1, y2)
            return (x1, y1, x2, y2), np.flip(crop, axes)
        return self._map(mirror, H, W)

    def crop(self, bbox: Sequence[int] | np.ndarray) -> BitmapMasks:
        """What lies inside the box `bbox` (4,) xyxy, seen from its corner; the box is cut to the image first."""
        x1, y1, x2, y2 = _inside(bbox, self.height, self.width)
        return self.shift(-x1, -y1, (max(y2 - y1, 1), max(x2 - x1, 1)))

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        """Enlarge the image at the right and bottom to `out_shape` (h, w)."""
        return self.shift(0, 0, out_shape, pad_val)

    def translate(self, out_shape: tuple[int, int], offset: float, direction: str = 'horizontal',
                  border_value: int = 0, interpolation: str = 'bilinear') -> BitmapMasks:
        """Moved by `offset` whole pixels along `direction`, as `shift`; `interpolation` is accepted."""
        x, y = (offset, 0.0) if direction == 'horizontal' else (0.0, offset)
        return self.shift(x, y, out_shape, border_value)

    def shift(self, x: float, y: float, out_shape: tuple[int, int], border_value: int = 0) -> BitmapMasks:
        """Moved by (x, y) whole pixels into an image of `out_shape` (h, w), and cut at its border."""
        dx, dy, (h, w) = round(x), round(y), out_shape

        def move(window: Window, crop: np.ndarray) -> tuple[Window, np.ndarray]:
            left, top = window[0] + dx, window[1] + dy
            x1, y1 = max(left, 0), max(top, 0)
            x2, y2 = max(min(window[2] + dx, w), x1), max(min(window[3] + dy, h), y1)
            if x1 >= w or y1 >= h:
                return (0, 0, 0, 0), crop[:0, :0]
            return (x1, y1, x2, y2), crop[y1 - top:y2 - top, x1 - left:x2 - left]
        moved = self._map(move, h, w)
        if not border_value:
            return moved
        dense = moved.to_ndarray()
        image = np.zeros((h, w), bool)
        image[max(dy, 0):max(self.height + dy, 0), max(dx, 0):max(self.width + dx, 0)] = True
        return BitmapMasks(np.where(image, dense, np.uint8(border_value)), h, w)

    def without(self, hidden: np.ndarray) -> BitmapMasks:
        """Less the pixels that `hidden` (h, w) bool marks."""
        return self._map(lambda window, crop: (window, np.where(
            hidden[window[1]:window[3], window[0]:window[2]], np.uint8(0), crop)), self.height, self.width)

    def union(self) -> np.ndarray:
        """(h, w) bool, where any of the instances is."""
        out = np.zeros((self.height, self.width), bool)
        for (x1, y1, x2, y2), crop in zip(self.windows, self.crops, strict=True):
            out[y1:y2, x1:x2] |= crop.astype(bool)
        return out

    def to_ndarray(self) -> np.ndarray:
        """(G, h, w) uint8, 1 inside."""
        return np.stack(list(self)) if len(self) else np.zeros((0, self.height, self.width), np.uint8)

    def to_bitmap(self) -> BitmapMasks:
        return self

    def to_instance_masks(self) -> InstanceMasks:
        """As a model takes them."""
        return InstanceMasks.from_windows(self.windows, self.crops, (self.height, self.width))

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        """The instances of several, one after another; the image's size is the first one's."""
        pieces = (piece for m in masks for piece in zip(m.windows, m.crops, strict=True))
        return cls.from_windows(pieces, masks[0].height, masks[0].width)

    def _map(self, f: Callable[[Window, np.ndarray], tuple[Window, np.ndarray]], height: int,
             width: int) -> BitmapMasks:
        pieces = (f(window, crop) for window, crop in zip(self.windows, self.crops, strict=True))
        return self.from_windows(pieces, height, width)


def _nearest(old: int, new: int) -> np.ndarray:
    """(new,) which of `old` pixels each of `new` takes its value from, as OpenCV rounds it."""
    return np.minimum(np.floor(np.arange(new) * (1 / (new / old))), old - 1).astype(np.int64)


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


def _inside(bbox: Sequence[int] | np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    x1, x2 = np.clip([bbox[0], bbox[2]], 0, width)
    y1, y2 = np.clip([bbox[1], bbox[3]], 0, height)
    return int(x1), int(y1), int(x2), int(y2)
