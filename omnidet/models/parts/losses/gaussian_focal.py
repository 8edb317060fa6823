"""The focal loss against targets that fall off around each object."""

from __future__ import annotations

from torch import Tensor, nn

from omnidet.models.parts.losses.reduce import weighted
from omnidet.registry import LOSSES

EPS = 1e-12


@LOSSES.register
class GaussianFocalLoss(nn.Module):
    """Focal loss of probabilities p against a target y in 0..1 (CornerNet, arXiv:1808.01244, equation 1).

    It is -(1 - p)^alpha log(p) where y is 1, and -(1 - y)^gamma p^alpha log(1 - p) elsewhere.

    Args:
        alpha: the focusing power.
        gamma: how fast the loss falls towards an object.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
        pos_weight, neg_weight: factors of the two cases.
    """

    def __init__(self, alpha: float = 2.0, gamma: float = 4.0, reduction: str = 'mean', loss_weight: float = 1.0,
                 pos_weight: float = 1.0, neg_weight: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.gamma, self.reduction, self.loss_weight = alpha, gamma, reduction, loss_weight
        self.pos_weight, self.neg_weight = pos_weight, neg_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        """The loss.

        Args:
            pred: (...,) probabilities.
            target: (...,) in 0..1.
            weight: (...,) or None.
            avg_factor: what a mean divides by.
            reduction_override: in place of the configured reduction.

        Returns:
            A scalar, or (...,) with reduction 'none'.
        """
        loss = self.pos_weight * self._positive(pred) * (target == 1) + self.neg_weight * self._negative(pred, target)
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)

    def with_positives(self, pred: Tensor, target: Tensor, positive: Tensor, mask: Tensor,
                       avg_factor: Tensor | float) -> Tensor:
        """The loss where positives are named, whatever the target is there, and may be named several times.

        Args:
            pred: (...,) probabilities, all of them negatives as far as their target is less than 1.
            target: (...,) in 0..1.
            positive: (P,...) probabilities of the positives.
            mask: as `positive`, True where there is one.
            avg_factor: what the sum is divided by.

        Returns:
            A scalar.
        """
        pos = (self._positive(positive) * mask).sum()
        neg = self._negative(pred, target).sum()
        return self.loss_weight * (self.pos_weight * pos + self.neg_weight * neg) / avg_factor

    def _positive(self, p: Tensor) -> Tensor:
        return -(p + EPS).log() * (1 - p).pow(self.alpha)

    def _negative(self, p: Tensor, target: Tensor) -> Tensor:
        return -(1 - p + EPS).log() * p.pow(self.alpha) * (1 - target).pow(self.gamma)
