"""How panoptic segments are written down: as numbers in a map, and as colours in a png."""

from __future__ import annotations

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
