"""Colour laid over the pixels of objects and of segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from omnidet.masks import InstanceMasks
from omnidet.panoptic import INSTANCE_OFFSET
from omnidet.visualization.colors import Color, color_of

MASK_OPACITY = 0.4
SEGMENT_OPACITY = 0.55


def paint_masks(canvas: NDArray[np.uint8], masks: InstanceMasks, colors: Sequence[Color], width: int) -> None:
    """Tint masks and draw their outlines, in place.

    Args:
        canvas: (H, W, 3) uint8 in BGR.
        masks: (K,) in pixels of `canvas`, which may be smaller or larger than the masks' image.
        colors: (R, G, B) of each.
        width: of the outlines, in pixels.
    """
    H, W = canvas.shape[:2]
    for crop, (x, y, _, _), color in zip(masks.crops(), masks.windows.tolist(), colors, strict=True):
        inside = crop.numpy()[:max(H - y, 0), :max(W - x, 0)]
        h, w = inside.shape
        if not inside.any():
            continue
        part = canvas[y:y + h, x:x + w]
        tint = np.empty_like(part)
        tint[:] = color[::-1]
        cv2.copyTo(cv2.addWeighted(part, 1 - MASK_OPACITY, tint, MASK_OPACITY, 0), inside, part)
        outlines, _ = cv2.findContours(np.pad(inside, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x - 1, y - 1))
        cv2.drawContours(canvas, outlines, -1, color[::-1], width, cv2.LINE_AA)


def paint_segments(canvas: NDArray[np.uint8], segments: Any, classes: int, palette: Sequence[Color] | None = None,
                   panoptic: bool = False) -> None:
    """Tint every segment of a semantic or panoptic map in its class's colour and draw the borders, in place.

    Instances of one class differ in brightness.

    Args:
        canvas: (H, W, 3) uint8 in BGR.
        segments: (H, W) of classes, or of class + 1000 * instance; beyond the classes there is nothing.
        classes: how many there are.
        palette: (R, G, B) of each class.
        panoptic: which of the two.
    """
    values, place = np.unique(segments, return_inverse=True)
    place = place.reshape(np.shape(segments)).astype(np.int32)
    labels = values % INSTANCE_OFFSET if panoptic else values
    real = (labels >= 0) & (labels < classes)
    table = np.array([segment_color(int(c), int(v) if panoptic else 0, palette)[::-1]
                      for c, v in zip(labels, values, strict=True)], np.uint8).reshape(-1, 3)
    mixed = cv2.addWeighted(canvas, 1 - SEGMENT_OPACITY, table[place], SEGMENT_OPACITY, 0)
    edge = np.zeros(place.shape, bool)
    edge[:, 1:] = place[:, 1:] != place[:, :-1]
    edge[1:] |= place[1:] != place[:-1]
    mixed[edge] = table[place][edge]
    np.copyto(canvas, mixed, where=real[place][..., None])


def segment_places(segments: Any, classes: int, panoptic: bool = False, least: float = 0.002
                   ) -> list[tuple[int, int, tuple[int, int]]]:
    """Where the names of segments go, the largest segments first.

    Args:
        segments, classes, panoptic: see `paint_segments`.
        least: the share of the image below which a segment has no name.

    Returns:
        for each segment its class, its value in the map, and the point (x, y) inside it that is farthest from others.
    """
    values, areas = np.unique(segments, return_counts=True)
    found = []
    for n in np.argsort(-areas, kind='stable'):
        value = int(values[n])
        label = value % INSTANCE_OFFSET if panoptic else value
        if 0 <= label < classes and areas[n] >= least * np.size(segments):
            x, y, w, h = cv2.boundingRect((segments == values[n]).astype(np.uint8))
            inside = np.pad((segments[y:y + h, x:x + w] == values[n]).astype(np.uint8), 1)
            depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            found.append((label, value, (int(x + column - 1), int(y + row - 1))))
    return found


def segment_color(label: int, value: int, palette: Sequence[Color] | None = None) -> Color:
    """The class's colour; for instances 0, 1, 2, ... as it is, then darker and lighter by turns."""
    factor = (1.0, 0.75, 1.2, 0.6, 0.9)[value // INSTANCE_OFFSET % 5]
    r, g, b = (min(round(c * factor), 255) for c in color_of(label, palette))
    return r, g, b
