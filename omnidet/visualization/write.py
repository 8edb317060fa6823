"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from omnidet.files import written_whole


def write_jpg(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Write (H, W, 3) uint8 in BGR, whole or not at all; folders on the way are made. Returns `path`."""
    with written_whole(path) as temporary:
        temporary.write_bytes(cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    return path
