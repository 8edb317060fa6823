"""Recall of proposals, without classes and without COCO's machinery: quick enough to run while training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def average_recall(truths: list[NDArray[np.float64]], proposals: list[NDArray[np.float64]],
                   nums: Sequence[int], iou_thrs: NDArray[np.float64]) -> list[float]:
    """The share of boxes that the best proposals find, averaged over IoU thresholds.

    Boxes and proposals of an image are matched one to one, the pair of the largest IoU first.

    Args:
        truths: for each image (G, 4) xyxy.
        proposals: for each image (P, 4) xyxy, best first.
        nums: how many proposals of an image count.
        iou_thrs: (T).

    Returns:
        for each of `nums` a recall in 0..1; -1 where there are no boxes at all.
    """
    out = []
    for n in nums:
        found = [best_matches(box_iou(t, p[:n])) for t, p in zip(truths, proposals, strict=True) if len(t)]
        ious = np.concatenate(found) if found else np.zeros(0)
        out.append(float((ious[:, None] >= iou_thrs).mean()) if ious.size else -1.0)
    return out


def best_matches(ious: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU that each row is matched with, one to one and largest first; 0 where no column is left.

    Args:
        ious: (G, P).

    Returns:
        (G).
    """
    left, out = ious.copy(), np.zeros(len(ious))
    for _ in range(min(ious.shape)):
        g, p = np.unravel_index(left.argmax(), left.shape)
        out[g] = max(left[g, p], 0.0)
        left[g, :], left[:, p] = -1, -1
    return out


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of every pair of boxes: (G, 4) and (P, 4) xyxy -> (G, P)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clip(0).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b))
    return inter / np.maximum(area_a[:, None] + area_b[None] - inter, 1e-9)
