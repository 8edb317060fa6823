"""How panoptic segments are written down: as numbers in a map, and as colours in a png."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INSTANCE_OFFSET = 1000
"""A pixel of `Result.panoptic` holds class + 1000 * instance."""


def colors_to_ids(bgr: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(H, W, 3) uint8 in BGR, as OpenCV reads COCO's panoptic png -> (H, W) ids: R + 256 G + 65536 B."""
    b, g, r = (bgr[..., c].astype(np.int32) for c in range(3))
    return r + 256 * g + 65536 * b


def ids_to_colors(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(H, W) ids below 2^24 -> (H, W, 3) uint8 in BGR: the inverse of `colors_to_ids`."""
    return np.stack([ids >> 16 & 255, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)


def segments_of(panoptic: NDArray[np.integer], num_classes: int) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """A panoptic map in COCO's form.

    Args:
        panoptic: (H, W) class + 1000 * instance.
        num_classes: K; a class of K or more is nothing.

    Returns:
        (H, W) ids, 0 where there is nothing; and for each segment a dict of id, label and area, in pixels.
    """
    values, place, areas = np.unique(panoptic, return_inverse=True, return_counts=True)
    labels = values % INSTANCE_OFFSET
    real = labels < num_classes
    ids = np.where(real, np.arange(1, len(values) + 1), 0)
    return ids[place].reshape(panoptic.shape), [dict(id=int(ids[n]), label=int(labels[n]), area=int(areas[n]))
                                                for n in np.flatnonzero(real)]
