"""Masks as COCO's compressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api
from numpy.typing import NDArray

from omnidet.masks import InstanceMasks


def encode_masks(masks: InstanceMasks) -> list[dict[str, Any]]:
    """The run lengths of masks (K,), straight from their windows.

    Returns:
        for each mask dict(size=[H, W], counts=bytes), as `pycocotools.mask.encode` gives of the whole image.
    """
    masks = masks.cpu()
    H, W = masks.size
    return [mask_api.frPyObjects({'size': [H, W], 'counts': run_lengths(crop.numpy(), x, y, H, W)}, H, W)
            for crop, (x, y, _, _) in zip(masks.crops(), masks.windows.tolist(), strict=True)]


def run_lengths(crop: NDArray[np.uint8], x: int, y: int, height: int, width: int) -> list[int]:
    """How many pixels in a row are 0, 1, 0, ..., down the columns of an image.

    Args:
        crop: (h, w) of 0 and 1, the part of the image from column `x` and row `y`; the rest is 0.
        x, y: where that part begins.
        height, width: the size of the image.
    """
    h, w = crop.shape
    columns = np.zeros((w, h + 1), np.int8)
    columns[:, :h] = crop.T
    change = np.diff(columns, axis=1, prepend=0)    # (w, h + 1): 1 where a run begins, -1 behind its end
    place = (np.arange(x, x + w)[:, None] * height + np.arange(y, y + h + 1))[change != 0]
    if h == height:    # a run that ends at the foot of a column may go on at the head of the next
        joint = np.flatnonzero(place[1::2][:-1] == place[2::2]) * 2 + 1
        place = np.delete(place, np.concatenate([joint, joint + 1]))
    lengths = np.diff(place, prepend=0, append=height * width).tolist()
    return lengths[:-1] if place.size and not lengths[-1] else lengths


def readable(rle: dict[str, Any]) -> dict[str, Any]:
    """An encoding as json can hold it."""
    return {'size': [int(n) for n in rle['size']], 'counts': rle['counts'].decode()}
