"""Losses of the focal family."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.parts.losses.reduce import weighted
from omnidet.registry import LOSSES


@LOSSES.register
class FocalLoss(nn.Module):
    """Focal loss (arXiv:1708.02002, equation 5): -alpha_t (1 - p_t)^gamma log(p_t), of every class by itself.

    p_t is the probability p of a class where it is the label's and 1 - p elsewhere, alpha_t likewise.

    Args:
        use_sigmoid: must be True; the loss knows no softmax.
        gamma: the focusing power.
        alpha: the weight of the label's class; 1 - alpha is that of the others.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
        activated: whether predictions are probabilities already.
    """

    custom_cls_channels = False
    custom_activation = False

    def __init__(self, use_sigmoid: bool = True, gamma: float = 2.0, alpha: float = 0.25, reduction: str = 'mean',
                 loss_weight: float = 1.0, activated: bool = False) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ConfigError('FocalLoss: use_sigmoid is False; only the sigmoid form exists')
        self.use_sigmoid, self.gamma, self.alpha, self.reduction = use_sigmoid, gamma, alpha, reduction
        self.loss_weight, self.activated = loss_weight, activated

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        """The loss.

        Args:
            pred: (..., K) logits (probabilities where `activated`).
            target: labels (...,) int64 with K for background, or (..., K) of 0 and 1.
            weight: (...,) or (..., K), or None.
            avg_factor: what a mean divides by.
            reduction_override: in place of the configured reduction.

        Returns:
            A scalar, or (..., K) with reduction 'none'.
        """
        if target.ndim < pred.ndim:
            is_label = target[..., None] == torch.arange(pred.shape[-1], device=pred.device)
        else:
            is_label = target > 0
        if self.activated:
            p = torch.where(is_label, pred, 1 - pred)
            loss = -(1 - p).pow(self.gamma) * p.clamp(min=1e-12).log()
        else:
            # of the label's class p_t is the sigmoid of x, of the others of -x: one formula for both
            x = torch.where(is_label, -pred, pred)
            loss = x.sigmoid().pow(self.gamma) * F.softplus(x)
        loss = loss * torch.where(is_label, self.alpha, 1 - self.alpha)
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)


@LOSSES.register
class QualityFocalLoss(nn.Module):
    """Quality focal loss (arXiv:2006.04388, equation 2): |y - p|^beta times the cross entropy of p against quality y.

    Args:
        use_sigmoid: must be True; the loss knows no softmax.
        beta: the focusing power.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
        activated: whether predictions are probabilities already.
    """

    def __init__(self, use_sigmoid: bool = True, beta: float = 2.0, reduction: str = 'mean', loss_weight: float = 1.0,
                 activated: bool = False) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ConfigError('QualityFocalLoss: use_sigmoid is False; only the sigmoid form exists')
        self.use_sigmoid, self.beta, self.reduction = use_sigmoid, beta, reduction
        self.loss_weight, self.activated = loss_weight, activated

    def forward(self, pred: Tensor, target: tuple[Tensor, Tensor], weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        """The loss.

        Args:
            pred: (..., K) logits (probabilities where `activated`).
            target: labels (...,) int64 with K for background, and their qualities (...,) in 0..1.
            weight: (...,) or None.
            avg_factor: what a mean divides by.
            reduction_override: in place of the configured reduction.

        Returns:
            A scalar, or (...,) summed over classes with reduction 'none'.
        """
        label, quality = target
        K = pred.shape[-1]
        positive = (label >= 0) & (label < K)
        own = pred.gather(-1, label.clamp(0, K - 1)[..., None])[..., 0]    # (...,)
        as_background = self._term(pred, pred.new_zeros(()).expand_as(pred))
        as_object = self._term(own, quality.to(pred.dtype)) - self._term(own, own.new_zeros(()).expand_as(own))
        loss = as_background.sum(-1) + as_object * positive
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)

    def _term(self, pred: Tensor, quality: Tensor) -> Tensor:
        p = pred if self.activated else pred.sigmoid()
        entropy = F.binary_cross_entropy if self.activated else F.binary_cross_entropy_with_logits
        return entropy(pred, quality, reduction='none') * (quality - p).abs() ** self.beta
