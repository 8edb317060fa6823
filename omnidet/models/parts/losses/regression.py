"""Losses on numbers and on the terms of a box.

All of them are called with pred and target of one shape, mostly (..., 4); a weight of that shape or of its first
dimensions; an avg_factor that a mean divides by (the number of elements where None); and a reduction_override in place
of the configured reduction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.parts.losses.reduce import weighted
from omnidet.registry import LOSSES


def smooth_l1(distance: Tensor, beta: float) -> Tensor:
    """distance^2 / (2 beta) below beta, distance - beta / 2 above, of distances that are not negative."""
    if beta <= 0:
        return distance
    return torch.where(distance < beta, distance.square() / (2 * beta), distance - beta / 2)


class _TermLoss(nn.Module):
    """A loss of every term by itself, `terms`, weighted and reduced."""

    def __init__(self, reduction: str, loss_weight: float) -> None:
        super().__init__()
        self.reduction, self.loss_weight = reduction, loss_weight

    def terms(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of each term, of the shape of both."""
        raise NotImplementedError(f'{type(self).__name__} does not define terms()')

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        loss = self.terms(pred, target)
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)


@LOSSES.register
class L1Loss(_TermLoss):
    """|pred - target|.

    Args:
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
    """

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)

    def terms(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs()


@LOSSES.register
class SmoothL1Loss(_TermLoss):
    """Quadratic below `beta`, linear above (Fast R-CNN, arXiv:1504.08083, equation 3).

    Args:
        beta: where the two meet.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
    """

    def __init__(self, beta: float = 1.0, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        if beta < 0:
            raise ConfigError(f'SmoothL1Loss: beta is {beta}; it must not be negative')
        self.beta = beta

    def terms(self, pred: Tensor, target: Tensor) -> Tensor:
        return smooth_l1((pred - target).abs(), self.beta)


@LOSSES.register
class BalancedL1Loss(_TermLoss):
    """A smooth L1 whose gradient rises faster near 0 (Libra R-CNN, arXiv:1904.02701, equations 7 to 9).

    With b = exp(gamma / alpha) - 1 and d = |pred - target|: alpha / b (b d + 1) log(b d / beta + 1) - alpha d below
    `beta`, and gamma d + gamma / b - alpha beta above.

    Args:
        alpha: how much small errors weigh.
        gamma: the largest gradient.
        beta: where the two pieces meet.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
    """

    def __init__(self, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0, reduction: str = 'mean',
                 loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        if beta <= 0 or alpha <= 0:
            raise ConfigError(f'BalancedL1Loss: alpha is {alpha} and beta {beta}; both must be positive')
        self.alpha, self.gamma, self.beta = alpha, gamma, beta

    def terms(self, pred: Tensor, target: Tensor) -> Tensor:
        alpha, gamma, beta = self.alpha, self.gamma, self.beta
        b, d = math.expm1(gamma / alpha), (pred - target).abs()
        small = alpha / b * (b * d + 1) * (b * d / beta + 1).log() - alpha * d
        return torch.where(d < beta, small, gamma * d + gamma / b - alpha * beta)


@LOSSES.register
class MSELoss(_TermLoss):
    """(pred - target)^2.

    Args:
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
    """

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)

    def terms(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).square()


@LOSSES.register
class BoundedIoULoss(_TermLoss):
    """A bound of the IoU for each of a box's four terms, made smooth (arXiv:1711.00164, section 4).

    The term of x is 1 - max((w - 2 |dx|) / (w + 2 |dx|), 0), that of w is 1 - min(w / pw, pw / w), with the target's
    width w, the predicted one pw and the shift dx of the centres; likewise for y and h.

    Args:
        beta: of the smooth L1 that each term goes through.
        eps: keeps denominators from 0, in pixels.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
    """

    def __init__(self, beta: float = 0.2, eps: float = 1e-3, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        self.beta, self.eps = beta, eps

    def terms(self, pred: Tensor, target: Tensor) -> Tensor:
        size, gt_size = pred[..., 2:] - pred[..., :2], target[..., 2:] - target[..., :2]
        shift = (target[..., :2] + target[..., 2:] - pred[..., :2] - pred[..., 2:]).abs()    # twice that of the centres
        of_center = 1 - ((gt_size - shift) / (gt_size + shift + self.eps)).clamp(min=0)
        of_size = 1 - torch.minimum(gt_size / (size + self.eps), size / (gt_size + self.eps))
        return smooth_l1(torch.cat([of_center, of_size], -1), self.beta)
