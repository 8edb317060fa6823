"""Many pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from omnidet.visualization.draw import bgr_copy
from omnidet.visualization.labels import load_font

Picture = NDArray[np.uint8]
PAPER, INK = (250, 250, 250), (60, 60, 60)


def contact_sheet(images: Sequence[Picture], columns: int = 4, tile: int = 320,
                  captions: Sequence[str] | None = None) -> Picture:
    """Lay pictures out in rows, each fitted into a square tile with its proportions kept.

    Draw on pictures that are about as large as a tile already: labels shrink with the picture.

    Args:
        images: (h, w, 3) uint8 in BGR, of any sizes.
        columns: pictures in a row.
        tile: pixels of a tile's side.
        captions: one line beneath each picture; cut where it is longer than the tile.

    Returns:
        (H, W, 3) uint8 in BGR.
    """
    fitted = [_fit(image, tile) for image in images]
    columns = max(1, min(columns, len(fitted)))
    gap, text = max(4, tile // 40), max(11, tile // 22)
    line = 0 if captions is None else round(text * 1.6)
    rows = [range(i, min(i + columns, len(fitted))) for i in range(0, len(fitted), columns)]
    heights = [max(fitted[i].shape[0] for i in row) + line + gap for row in rows]
    sheet = Image.new('RGB', (gap + columns * (tile + gap), gap + sum(heights)), PAPER)
    pen, top = ImageDraw.Draw(sheet), gap
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = gap + column * (tile + gap)
            h, w = fitted[i].shape[:2]
            bottom = top + height - line - gap
            sheet.paste(Image.fromarray(fitted[i][..., ::-1]), (left + (tile - w) // 2, (top + bottom - h) // 2))
            if captions is not None and i < len(captions):
                caption, font = _shortened(captions[i], text, tile), load_font(text)
                indent = (tile - font.getlength(caption)) / 2
                pen.text((left + indent, bottom + text // 4), caption, fill=INK, font=font)
        top += height
    return np.ascontiguousarray(np.asarray(sheet)[..., ::-1])


def _fit(image: Picture, tile: int) -> Picture:
    h, w = image.shape[:2]
    factor = tile / max(h, w)
    size = max(1, round(w * factor)), max(1, round(h * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(bgr_copy(image), size, interpolation=how), np.uint8)


def _shortened(caption: str, size: int, width: int) -> str:
    font = load_font(size)
    if font.getlength(caption) <= width:
        return caption
    while caption and font.getlength(caption + '...') > width:
        caption = caption[:-1]
    return caption + '...'
