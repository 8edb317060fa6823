"""Labels on chips of colour, placed so that they stay inside the picture and off each other."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

from omnidet.visualization.colors import Color, text_color

Rect = tuple[float, float, float, float]    # left, top, right, bottom


class Label(NamedTuple):
    """A text that belongs to a box: `text`, or `short` where there is little room."""

    box: Rect
    text: str
    short: str
    color: Color


def font_size(size: tuple[int, int]) -> int:
    """Pixels, in proportion to the side of a picture of (width, height): 13 at 640 x 480, never below 11."""
    return max(11, round(math.sqrt(size[0] * size[1]) / 42))


@functools.lru_cache(maxsize=16)
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow."""
    return ImageFont.load_default(size)


class Placed(NamedTuple):
    """A label that has found its place: the chip's rectangle, and which of its texts stands on it."""

    rect: Rect
    text: str
    color: Color


def draw_labels(pen: ImageDraw.ImageDraw, labels: list[Label], size: tuple[int, int], points: int) -> None:
    """Place labels, the most important first, then draw them, the most important last.

    Args:
        pen: draws on a picture of `size` (width, height).
        labels: most important first.
        points: the font's size in pixels.
    """
    pad = _pad(points)
    for rect, text, color in reversed(place_labels(labels, size, points)):
        pen.rounded_rectangle((rect[0], rect[1], rect[2] - 1, rect[3] - 1), radius=pad, fill=(*color, 235))
        pen.text((rect[0] + pad, rect[1] + 0.5 * pad), text, fill=text_color(color), font=load_font(points))


def place_labels(labels: list[Label], size: tuple[int, int], points: int) -> list[Placed]:
    """Give each label the first free place at its box, with its short text if need be; else the least hidden one."""
    placed: list[Placed] = []
    for label in labels:
        options = [(text, rect) for text in dict.fromkeys((label.text, label.short))
                   for rect in _places(label.box, chip_size(text, points), size)]
        best, least = options[0], math.inf
        for text, rect in options:
            hidden = sum(_overlap(rect, other.rect) for other in placed)
            if hidden < least - 1e-6:
                best, least = (text, rect), hidden
            if not hidden:
                break
        placed.append(Placed(best[1], best[0], label.color))
    return placed


def chip_size(text: str, points: int) -> tuple[float, float]:
    """The width and height of a text with the ground it stands on, in pixels."""
    font = load_font(points)
    return font.getlength(text) + 2 * _pad(points), font.getbbox('Ag')[3] + 1.5 * _pad(points)


def _pad(points: int) -> int:
    return max(2, points // 5)


def _places(box: Rect, chip: tuple[float, float], size: tuple[int, int]) -> Iterator[Rect]:
    """Where a chip (width, height) may stand at a box, best first; all inside a picture of `size` where it fits."""
    (x1, y1, x2, y2), (w, h) = box, chip
    lefts = [x1, max(x1, x2 - w), (x1 + x2 - w) / 2, x1 - w / 2]
    spots = [(x1, y1 - h), (x1, y1), (lefts[1], y1 - h), (lefts[1], y1), (x1, y2), (x1, y2 - h), (lefts[1], y2),
             (lefts[1], y2 - h), (lefts[2], y1 - h), (lefts[2], y2), (x2, y1), (x1 - w, y1), (lefts[3], y1 - h),
             (x1, y1 - 2 * h), (x1, y2 + h)]
    for x, y in spots:
        left = round(min(max(x, 0), max(size[0] - w, 0)))
        top = round(min(max(y, 0), max(size[1] - h, 0)))
        yield left, top, left + w, top + h


def _overlap(a: Rect, b: Rect) -> float:
    """Shared area in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
