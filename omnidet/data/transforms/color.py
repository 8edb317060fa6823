"""Changes of colour, which leave boxes and masks alone."""

from __future__ import annotations

from collections.abc import Sequence

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


@TRANSFORMS.register
class PhotoMetricDistortion(BaseTransform):
    """SSD's changes of colour (arXiv:1512.02325): brightness, contrast, saturation, hue, order of the channels.

    Each with a chance of one half; contrast before or after saturation and hue. The image becomes float32, and is not
    cut to 0..255.

    Args:
        brightness_delta: the most that is added.
        contrast_range: the factors of contrast.
        saturation_range: the factors of saturation.
        hue_delta: the most that hue is shifted, in degrees.
    """

    def __init__(self, brightness_delta: int = 32, contrast_range: Sequence[float] = (0.5, 1.5),
                 saturation_range: Sequence[float] = (0.5, 1.5), hue_delta: int = 18) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = (contrast_range[0], contrast_range[1])
        self.saturation_range = (saturation_range[0], saturation_range[1])
        self.hue_delta = hue_delta

    def transform(self, results: Results) -> Results:
        image = results['img'].astype(np.float32)
        uniform = np.random.uniform
        contrast_first, brightness, contrast, saturation, hue, swap = np.random.randint(2, size=6).astype(bool)
        if brightness:
            image += np.float32(uniform(-self.brightness_delta, self.brightness_delta))
        factor = np.float32(uniform(*self.contrast_range)) if contrast else np.float32(1)
        if contrast_first:
            image *= factor
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)    # hue in 0..360, saturation in 0..1
        if saturation:
            hsv[..., 1] = np.minimum(hsv[..., 1] * np.float32(uniform(*self.saturation_range)), 1)
        if hue:
            hsv[..., 0] = (hsv[..., 0] + np.float32(uniform(-self.hue_delta, self.hue_delta))) % 360
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        if not contrast_first:
            image *= factor
        results['img'] = image[..., np.random.permutation(3)] if swap else image
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
