"""Changes of colour, which leave boxes and masks alone."""

from __future__ import annotations

import cv2
import numpy as np

from omnidet.data.transforms.base import BaseTransform, Results
from omnidet.registry import TRANSFORMS


@TRANSFORMS.register
class YOLOXHSVRandomAug(BaseTransform):
    """Shift hue, saturation and value, each by a random amount and each with a chance of one half (YOLOX).

    Args:
        hue_delta: the most that hue is shifted, in OpenCV's half degrees, around the circle.
        saturation_delta, value_delta: the most that these are shifted, of 255; what goes beyond is cut.
    """

    def __init__(self, hue_delta: int = 5, saturation_delta: int = 30, value_delta: int = 30) -> None:
        self.hue_delta = hue_delta
        self.saturation_delta = saturation_delta
        self.value_delta = value_delta

    def transform(self, results: Results) -> Results:
        gains = np.random.uniform(-1, 1, 3) * [self.hue_delta, self.saturation_delta, self.value_delta]
        gains = (gains * np.random.randint(0, 2, 3)).astype(np.int16)
        if gains.any():
            results['img'] = shift_hsv(results['img'], *gains.tolist())
        return results


def shift_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """Add to hue (modulo 180), saturation and value (cut to 0..255) of a BGR image.

    Args:
        image: (h, w, 3) uint8, or float32 with values of 0..255.

    Returns:
        (h, w, 3) of the same type.
    """
    levels = np.arange(256, dtype=np.int16)
    columns = [(levels + hue) % 180, np.clip(levels + saturation, 0, 255), np.clip(levels + value, 0, 255)]
    table = np.stack(columns, axis=1)
    hsv = cv2.cvtColor(image if image.dtype == np.uint8 else image.astype(np.uint8), cv2.COLOR_BGR2HSV)
    hsv = cv2.LUT(hsv, table.astype(np.uint8)[None])    # (1, 256, 3): one table for each channel
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR).astype(image.dtype, copy=False)
