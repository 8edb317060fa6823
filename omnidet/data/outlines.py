"""Outlines and run lengths: what annotation files hold of a mask, and the pixels that they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Window = tuple[int, int, int, int]    # x1, y1, x2, y2 in pixels, the last two exclusive


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
    return flat if len(points) >= 3 and polygon_area(flat) > 0 else flat[:0]


def rasterise(polygons: Sequence[Any], height: int, width: int) -> tuple[Window, np.ndarray]:
    """The pixels of an instance's polygons, with COCO's rule for those on the edge.

    Args:
        polygons: each (2P,) or (P, 2): x, y, x, y, ... in pixels; those with fewer than three corners do not count.
        height, width: the size of the image.

    Returns:
        a window around the polygons, inside the image, and its (h, w) of 0 and 1; nothing is set outside.
    """
    parts = [flat for part in polygons if len(flat := np.asarray(part, np.float64).reshape(-1)) >= 6]
    if not parts:
        return (0, 0, 0, 0), np.zeros((0, 0), np.uint8)
    # COCO rounds corners to fifths of a pixel. Rounded here already, they may be moved by whole pixels.
    fifths = [np.trunc(5 * part + 0.5).clip(-1e7, 1e7) for part in parts]
    points = np.concatenate(fifths).reshape(-1, 2)
    limit = np.array([width, height])
    low = np.clip(np.floor(points.min(axis=0) / 5) - 1, 0, limit).astype(int)
    high = np.clip(np.floor(points.max(axis=0) / 5) + 2, low, limit).astype(int)
    w, h = (int(v) for v in high - low)
    window = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    if not w or not h:
        return (0, 0, 0, 0), np.zeros((0, 0), np.uint8)
    from faster_coco_eval.core import mask as coco_mask
    moved = [(part.reshape(-1, 2) - 5 * low).reshape(-1) for part in fifths]
    moved = [np.where(part < 0, part - 0.75, part) / 5 for part in moved]    # it rounds half up, then towards zero
    return window, coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([part.tolist() for part in moved], h, w)))


def window_of(mask: np.ndarray) -> tuple[Window, np.ndarray]:
    """The window close around what is set in a mask (h, w), and what it holds, as a copy."""
    x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(x):
        return (0, 0, 0, 0), np.zeros((0, 0), np.uint8)
    x1, y1, x2, y2 = int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1
    return (x1, y1, x2, y2), mask[y1:y2, x1:x2].copy()


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


def polygon_area(polygon: np.ndarray) -> float:
    """Of a polygon (2P,) x, y, x, y, ..., in square pixels."""
    x, y = polygon[0::2], polygon[1::2]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
