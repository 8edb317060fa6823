"""Detections and ground truth on an image: boxes, masks, and labels that can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from omnidet.structures import Result
from omnidet.visualization.colors import Color, color_of
from omnidet.visualization.labels import Label, chip_size, draw_labels, font_size
from omnidet.visualization.paint import paint_masks, paint_segments, segment_color, segment_places

Picture = NDArray[np.uint8]


def draw(image: Picture, result: Result, classes: Sequence[str], score_thr: float = 0.3,
         palette: Sequence[Color] | None = None, truth: dict[str, Any] | None = None,
         with_scores: bool = True) -> Picture:
    """Draw what a model found.

    Args:
        image: (H, W, 3) uint8 in BGR, or grey (H, W); left as it is.
        result: boxes, scores, labels and as the case may be masks, in pixels of `image`. A semantic map is painted
            beneath them, a panoptic one in their place; the segments of either bear the names of their classes.
        classes: the names of the labels; a label beyond them is shown by its number.
        score_thr: the lowest score that is drawn.
        palette: (R, G, B) of each class; by default distinct colours that depend on the label alone.
        truth: `boxes` (G, 4) xyxy and `labels` (G,) to compare with, drawn dashed beneath.
        with_scores: write each score behind its class.

    Returns:
        (H, W, 3) uint8 in BGR.
    """
    canvas = bgr_copy(image)
    if truth is not None:
        canvas = draw_truth(canvas, truth['boxes'], truth.get('labels'), classes, palette, names=False)
    scores = _numpy(result.scores).astype(float)
    keep = np.flatnonzero(scores >= score_thr) if result.panoptic is None else np.zeros(0, np.int64)
    boxes, labels, scores = _numpy(result.boxes)[keep].astype(float), _numpy(result.labels)[keep], scores[keep]
    colors = [color_of(int(label), palette) for label in labels]
    big_first = np.argsort(-_areas(boxes), kind='stable')    # what is small stays visible on what is large
    segments = result.sem_seg if result.panoptic is None else result.panoptic
    if segments is not None:
        paint_segments(canvas, _numpy(segments), len(classes), palette, panoptic=result.panoptic is not None)
    if result.instance_masks is not None:
        masks = result.instance_masks.cpu()[torch.from_numpy(keep[big_first])]
        paint_masks(canvas, masks, [colors[i] for i in big_first], max(1, line_width(canvas) // 2))
    picture = Image.fromarray(canvas[..., ::-1])
    pen = ImageDraw.Draw(picture, 'RGBA')
    width = line_width(canvas)
    for i in big_first:
        _box(pen, boxes[i], colors[i], width)
    names = [_name(classes, label) for label in labels]
    tags = [Label(_corners(boxes[i]), f'{names[i]} {scores[i]:.2f}' if with_scores else names[i], names[i], colors[i])
            for i in np.argsort(-scores, kind='stable')]
    if segments is not None:
        tags += _segment_tags(_numpy(segments), classes, palette, result.panoptic is not None, font_size(picture.size))
    draw_labels(pen, tags, picture.size, font_size(picture.size))
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


def draw_truth(image: Picture, boxes: Any, labels: Any = None, classes: Sequence[str] = (),
               palette: Sequence[Color] | None = None, names: bool = True) -> Picture:
    """Draw annotated boxes, dashed in black and white so that they differ from whatever a model found.

    Args:
        image: (H, W, 3) uint8 in BGR, or grey (H, W); left as it is.
        boxes: (G, 4) xyxy in pixels of `image`.
        labels: (G,), or None.
        classes, palette: see `draw`.
        names: write the classes' names.
    """
    picture = Image.fromarray(bgr_copy(image)[..., ::-1])
    pen = ImageDraw.Draw(picture, 'RGBA')
    array = _numpy(boxes).astype(float).reshape(-1, 4)
    width = line_width(np.asarray(picture))
    for box in array:
        _dashed_box(pen, box, width)
    if names and labels is not None:
        tags = [Label(_corners(box), _name(classes, label), _name(classes, label), color_of(int(label), palette))
                for box, label in zip(array, _numpy(labels), strict=True)]
        draw_labels(pen, tags, picture.size, font_size(picture.size))
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


def line_width(image: Picture) -> int:
    """Pixels: 2 at 640 x 480, in proportion to the image's side."""
    return max(1, round(math.sqrt(image.shape[0] * image.shape[1]) / 320))


def _segment_tags(segments: NDArray[Any], classes: Sequence[str], palette: Sequence[Color] | None, panoptic: bool,
                  points: int) -> list[Label]:
    """The name of each segment, in the middle of it."""
    tags = []
    for label, value, (x, y) in segment_places(segments, len(classes), panoptic):
        name = _name(classes, label)
        w, h = chip_size(name, points)
        spot = (x - w / 2, y + h / 2, x + w / 2, y + h / 2)    # labels stand on their boxes
        tags.append(Label(spot, name, name, segment_color(label, value if panoptic else 0, palette)))
    return tags


def _box(pen: ImageDraw.ImageDraw, box: NDArray[np.float64], color: Color, width: int) -> None:
    """A rectangle between two faint dark lines, which set it off from a ground of its own colour."""
    x1, y1, x2, y2 = _corners(box)
    width = max(1, min(width, round(min(x2 - x1, y2 - y1) / 8)))    # a small box is not all line
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0, 110), width=1)
    if min(x2 - x1, y2 - y1) > 2 * width + 2:
        pen.rectangle((x1 + width, y1 + width, x2 - width, y2 - width), outline=(0, 0, 0, 70), width=1)
    pen.rectangle((x1, y1, x2, y2), outline=color, width=width)


def _dashed_box(pen: ImageDraw.ImageDraw, box: NDArray[np.float64], width: int) -> None:
    x1, y1, x2, y2 = _corners(box)
    dash = 4 * width
    pen.rectangle((x1, y1, x2, y2), outline=(0, 0, 0, 200), width=width)
    for x in range(x1, x2 + 1, 2 * dash):
        end = min(x + dash, x2)
        pen.rectangle((x, y1, end, min(y1 + width - 1, y2)), fill=(255, 255, 255))
        pen.rectangle((x, max(y2 - width + 1, y1), end, y2), fill=(255, 255, 255))
    for y in range(y1, y2 + 1, 2 * dash):
        end = min(y + dash, y2)
        pen.rectangle((x1, y, min(x1 + width - 1, x2), end), fill=(255, 255, 255))
        pen.rectangle((max(x2 - width + 1, x1), y, x2, end), fill=(255, 255, 255))


def _corners(box: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Whole pixels, in order and near the canvas whatever the box holds."""
    x1, y1, x2, y2 = (round(float(v)) for v in np.nan_to_num(box, posinf=1e5, neginf=-1e5).clip(-1e5, 1e5))
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)


def _name(classes: Sequence[str], label: Any) -> str:
    return str(classes[int(label)]) if 0 <= int(label) < len(classes) else str(int(label))


def _numpy(values: Any) -> NDArray[Any]:
    """A tensor on any device, an array or a list, as an array."""
    return values.detach().cpu().numpy() if hasattr(values, 'detach') else np.asarray(values)


def bgr_copy(image: Picture) -> Picture:
    """A copy with three channels, of an image with one, three or four."""
    if image.ndim == 2:
        image = image[..., None]
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image[..., :3], np.uint8, order='C')
