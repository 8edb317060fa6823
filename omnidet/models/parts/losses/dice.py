"""Dice loss of masks."""

from __future__ import annotations

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.parts.losses.reduce import weighted
from omnidet.registry import LOSSES


@LOSSES.register
class DiceLoss(nn.Module):
    """1 - 2 |p t| / (|p|^2 + |t|^2) of each mask (V-Net, arXiv:1606.04797, section 3).

    Args:
        use_sigmoid: must be True where `activate` is: masks have sigmoids.
        activate: whether predictions are logits.
        reduction: 'none', 'mean' or 'sum'.
        naive_dice: take sums in place of the sums of squares, and smooth by `eps` above the line too.
        loss_weight: factor of the loss.
        eps: what is added to either sum below the line (to the whole line with `naive_dice`).
    """

    def __init__(self, use_sigmoid: bool = True, activate: bool = True, reduction: str = 'mean',
                 naive_dice: bool = False, loss_weight: float = 1.0, eps: float = 1e-3) -> None:
        super().__init__()
        if activate and not use_sigmoid:
            raise ConfigError('DiceLoss: use_sigmoid is False, and activate is True; masks have sigmoids')
        self.use_sigmoid, self.activate, self.naive_dice = use_sigmoid, activate, naive_dice
        self.reduction, self.loss_weight, self.eps = reduction, loss_weight, eps

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        """The loss.

        Args:
            pred: (M, ...) logits; probabilities unless `activate`.
            target: (M, ...) of 0 to 1.
            weight: (M,), or None.
            avg_factor: what a mean divides by; M where None.
            reduction_override: in place of the configured reduction.

        Returns:
            A scalar, or (M,) with reduction 'none'.
        """
        p, t = pred.flatten(1).float(), target.flatten(1).float()
        p = p.sigmoid() if self.activate else p
        both = 2 * (p * t).sum(1)
        if self.naive_dice:
            loss = 1 - (both + self.eps) / (p.sum(1) + t.sum(1) + self.eps)
        else:
            loss = 1 - both / (p.square().sum(1) + t.square().sum(1) + 2 * self.eps)
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)
