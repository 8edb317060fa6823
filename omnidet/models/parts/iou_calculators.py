"""How well boxes overlap, by the names that an assigner's `iou_calculator` knows."""

from __future__ import annotations

from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.ops.boxes import pairwise_iof, pairwise_iou
from omnidet.registry import IOU_CALCULATORS


@IOU_CALCULATORS.register
class BboxOverlaps2D:
    """IoU of axis-aligned boxes.

    Args:
        scale: accepted as configs carry it.
        dtype: accepted as configs carry it.
    """

    def __init__(self, scale: float = 1.0, dtype: str | None = None) -> None:
        self.scale, self.dtype = scale, dtype

    def __call__(self, a: Tensor, b: Tensor, mode: str = 'iou') -> Tensor:
        """(..., N, 4), (..., M, 4) -> (..., N, M) in 0..1: the IoU, or with 'iof' the part of `a` that lies in `b`."""
        if mode not in ('iou', 'iof'):
            raise ConfigError(f"iou_calculator: mode is {mode!r}; allowed are 'iou' and 'iof'")
        return pairwise_iou(a, b) if mode == 'iou' else pairwise_iof(a, b)
