"""Losses on the overlap of a predicted box with its ground truth.

All of them are called with pred (..., 4) and target (..., 4), xyxy in pixels; a weight (...,) or (..., 4) with equal
columns; an avg_factor that a mean divides by; and a reduction_override in place of the configured reduction.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.parts.losses.reduce import weighted
from omnidet.ops.boxes import aligned_ciou, aligned_diou, aligned_giou, aligned_iou
from omnidet.registry import LOSSES

Overlap = Callable[[Tensor, Tensor, float], Tensor]


class _OverlapLoss(nn.Module):
    """1 - overlap, weighted and reduced."""

    def __init__(self, overlap: Overlap, eps: float, reduction: str, loss_weight: float) -> None:
        super().__init__()
        self.overlap, self.eps, self.reduction, self.loss_weight = overlap, eps, reduction, loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        loss = 1 - self.overlap(pred, target, self.eps)
        weight = weight.mean(-1) if weight is not None and weight.ndim > loss.ndim else weight
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)


@LOSSES.register
class GIoULoss(_OverlapLoss):
    """1 - GIoU (arXiv:1902.09630).

    Args:
        eps: the least union and hull, in square pixels.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
    """

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(aligned_giou, eps, reduction, loss_weight)


@LOSSES.register
class DIoULoss(_OverlapLoss):
    """1 - DIoU (arXiv:1911.08287). Arguments as `GIoULoss`."""

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(aligned_diou, eps, reduction, loss_weight)


@LOSSES.register
class CIoULoss(_OverlapLoss):
    """1 - CIoU, with the overlap held in -1..1 (arXiv:1911.08287). Arguments as `GIoULoss`."""

    def __init__(self, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(lambda a, b, e: aligned_ciou(a, b, e).clamp(-1, 1), eps, reduction, loss_weight)


@LOSSES.register
class IoULoss(nn.Module):
    """A falling function of the IoU (UnitBox, arXiv:1608.01471).

    Args:
        linear: an older spelling of `mode='linear'`.
        eps: the least IoU, so that its logarithm stays finite.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
        mode: 'log' for -log(IoU), 'linear' for 1 - IoU, 'square' for 1 - IoU^2.
    """

    MODES = ('log', 'linear', 'square')

    def __init__(self, linear: bool = False, eps: float = 1e-6, reduction: str = 'mean', loss_weight: float = 1.0,
                 mode: str = 'log') -> None:
        super().__init__()
        if mode not in self.MODES:
            raise ConfigError(f'IoULoss: mode is {mode!r}; allowed are {self.MODES}')
        self.mode = 'linear' if linear else mode
        self.eps, self.reduction, self.loss_weight = eps, reduction, loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        iou = aligned_iou(pred, target).clamp(min=self.eps)
        loss = {'log': lambda: -iou.log(), 'linear': lambda: 1 - iou, 'square': lambda: 1 - iou.square()}[self.mode]()
        weight = weight.mean(-1) if weight is not None and weight.ndim > loss.ndim else weight
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)
