"""Colours that tell classes apart. All are (R, G, B) in 0..255."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]

FIRST: Color = (255, 64, 64)


def color_of(label: int, palette: Sequence[Color] | None = None) -> Color:
    """The colour of a class: its entry in `palette` where there is one, else one that depends on the label alone."""
    if palette is not None and 0 <= label < len(palette):
        r, g, b = palette[label]
        return int(r), int(g), int(b)
    step = 64    # few sizes of palette, so that each is worked out once
    return default_palette((label // step + 1) * step)[label] if label >= 0 else FIRST


@functools.lru_cache(maxsize=32)
def default_palette(count: int) -> tuple[Color, ...]:
    """`count` colours, each as unlike all before it as can be; a longer palette begins with the shorter one.

    They are vivid and neither near black nor near white, taken from a grid by the greatest distance in CIELAB. Beyond
    the size of the grid (some hundreds) they repeat.
    """
    grid, lab = _candidates()
    chosen = [int(np.abs(grid - np.array(FIRST)).sum(1).argmin())]
    distance = np.full(len(grid), np.inf)
    while len(chosen) < min(count, len(grid)):
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    colors = [(int(r), int(g), int(b)) for r, g, b in grid[chosen]]
    return tuple(itertools.islice(itertools.cycle(colors), count))


def text_color(background: Color) -> Color:
    """Black or white, whichever stands out more (WCAG's contrast of relative luminances)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (255, 255, 255)


@functools.cache
def _candidates() -> tuple[NDArray[Any], NDArray[Any]]:
    """(N, 3) RGB and the same in CIELAB: a grid without what is dull, glaring, dark or pale."""
    levels = np.linspace(0, 255, 13).round().astype(np.int64)
    grid = np.array(list(itertools.product(levels, repeat=3)))
    rgb = (grid[:, None] / 255).astype(np.float32)
    lab = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), np.float32)[:, 0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    vivid = (lab[:, 0] > 48) & (lab[:, 0] < 90) & (chroma > 42) & (chroma < 98)
    return grid[vivid], lab[vivid]
