"""Losses of the focal family."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from omnidet.errors import ConfigError
from omnidet.models.parts.losses.reduce import weighted
from omnidet.registry import LOSSES

BLOCK_CPU = 2 ** 17
"""How many logits a CPU takes at a time; other devices take all at once."""


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
        reduction = reduction_override or self.reduction
        by_prior = target.ndim < pred.ndim and (weight is None or weight.ndim < pred.ndim)
        if by_prior and not self.activated and reduction != 'none':
            if reduction == 'mean' and avg_factor is None:
                avg_factor = max(pred.numel(), 1)
            loss = _FocalSum.apply(pred.flatten(0, -2), target.flatten(), self.gamma, self.alpha).reshape(target.shape)
            return self.loss_weight * weighted(loss, weight, reduction, avg_factor)
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
        return self.loss_weight * weighted(loss, weight, reduction, avg_factor)


class _FocalSum(torch.autograd.Function):
    """Focal loss of each prior, summed over its classes, with its gradient from the same pass.

    A batch has millions of logits. Taken a block at a time they stay in the cache, and one tensor of their size is kept
    for the backward pass, not ten.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, gamma: float, alpha: float) -> Tensor:
        """(M, K) logits and (M,) labels, K for background -> (M,)."""
        M, K = logits.shape
        rows = max(1, BLOCK_CPU // max(K, 1)) if logits.device.type == 'cpu' else max(M, 1)
        out, slope = logits.new_empty(M), torch.empty_like(logits)
        for i in range(0, M, rows):
            x, label = logits[i:i + rows], labels[i:i + rows]
            loss, d = _focal_term(x, gamma)
            loss, d = loss.mul_(1 - alpha), d.mul_(1 - alpha)
            at, is_object = label.clamp(0, K - 1)[:, None], ((label >= 0) & (label < K))[:, None]
            own, own_slope = _focal_term(-x.gather(1, at), gamma)    # the label's own class has the other sign
            loss.scatter_(1, at, torch.where(is_object, alpha * own, loss.gather(1, at)))
            d.scatter_(1, at, torch.where(is_object, -alpha * own_slope, d.gather(1, at)))
            out[i:i + rows], slope[i:i + rows] = loss.sum(1), d
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.saved_tensors[0] * grad[:, None], None, None, None


def _focal_term(x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """p^gamma log(1 + e^x) with p = sigmoid(x), and its derivative p^gamma (gamma (1 - p) log(1 + e^x) + p).

    log(1 + e^x) is -log(1 - p), and x where 1 - p vanishes: a processor may take ten times longer for log1p than for
    log.
    """
    p, rest = x.sigmoid(), x.neg().sigmoid_()
    entropy = rest.clamp(min=torch.finfo(x.dtype).tiny).log_().neg_()
    entropy = torch.maximum(entropy, x, out=entropy)
    power = p.square() if gamma == 2 else p.pow(gamma)
    slope = rest.mul_(entropy).mul_(gamma).add_(p).mul_(power)
    return entropy.mul_(power), slope


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


@LOSSES.register
class DistributionFocalLoss(nn.Module):
    """Distribution focal loss: probability to the two whole numbers around the target (arXiv:2006.04388, equation 6).

    Args:
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the loss.
    """

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0) -> None:
        super().__init__()
        self.reduction, self.loss_weight = reduction, loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None) -> Tensor:
        """The loss.

        Args:
            pred: (..., n + 1) logits of the numbers 0 to n.
            target: (...,) in 0..n, n itself excluded.
            weight: (...,) or None.
            avg_factor: what a mean divides by.
            reduction_override: in place of the configured reduction.
        """
        below = target.detach().floor()
        index = below.long()[..., None]
        log_p = pred.log_softmax(-1)
        nearness = below + 1 - target
        loss = -(log_p.gather(-1, index)[..., 0] * nearness + log_p.gather(-1, index + 1)[..., 0] * (1 - nearness))
        return self.loss_weight * weighted(loss, weight, reduction_override or self.reduction, avg_factor)
