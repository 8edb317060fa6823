"""Cross entropy of classes, and of masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.parts.losses.reduce import weighted
from omnidet.registry import LOSSES

NO_LABEL = -100
"""The label that is ignored where a config names none, as in torch."""


@LOSSES.register
class CrossEntropyLoss(nn.Module):
    """Cross entropy in three forms: over a softmax, of every class's sigmoid by itself, or of masks.

    Args:
        use_sigmoid: every class by itself; the label K (or any outside 0..K-1) then has no class: background.
        use_mask: of masks: the mean over an instance's pixels, by sigmoids.
        reduction: 'none', 'mean' or 'sum'.
        class_weight: weight of each class, or one number for all; with `use_sigmoid` or `use_mask`, of the positive
            term.
        ignore_index: the label that costs nothing; none where None.
        loss_weight: factor of the loss.
        avg_non_ignore: let a mean without `avg_factor` divide by the labels that are not ignored.
    """

    custom_cls_channels = False
    custom_activation = False

    def __init__(self, use_sigmoid: bool = False, use_mask: bool = False, reduction: str = 'mean',
                 class_weight: Sequence[float] | float | None = None, ignore_index: int | None = None,
                 loss_weight: float = 1.0, avg_non_ignore: bool = False) -> None:
        super().__init__()
        if use_sigmoid and use_mask:
            raise ConfigError('CrossEntropyLoss: use_sigmoid and use_mask exclude each other: masks have sigmoids')
        self.use_sigmoid, self.use_mask, self.reduction = use_sigmoid, use_mask, reduction
        self.class_weight = class_weight
        self.ignore_index, self.loss_weight, self.avg_non_ignore = ignore_index, loss_weight, avg_non_ignore

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None, reduction_override: str | None = None,
                ignore_index: int | None = None) -> Tensor:
        """The loss.

        Args:
            pred: logits (..., K). With `use_mask` those of each instance's own class, (M, h, w).
            target: labels (...,) int64, or with `use_sigmoid` or `use_mask` 0 to 1 of `pred`'s shape.
            weight: (...,), or with `use_sigmoid` also (..., K); with `use_mask` (M,); or None.
            avg_factor: what a mean divides by; the number of elements (instances with `use_mask`) where None.
            reduction_override: in place of the configured reduction.
            ignore_index: in place of the configured one.

        Returns:
            A scalar; with reduction 'none' (...,), with `use_sigmoid` (..., K), with `use_mask` (M,).
        """
        reduction = reduction_override or self.reduction
        ignored = self.ignore_index if ignore_index is None else ignore_index
        ignored = NO_LABEL if ignored is None else ignored
        form = self._masks if self.use_mask else self._sigmoid if self.use_sigmoid else self._softmax
        loss, counted = form(pred.float(), target, ignored)
        if avg_factor is None and self.avg_non_ignore and reduction == 'mean':
            avg_factor = counted.sum().clamp(min=1)
        return self.loss_weight * weighted(loss, weight, reduction, avg_factor)

    def _softmax(self, pred: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(pred.reshape(-1, pred.shape[-1]), target.reshape(-1), self._class_weight(pred),
                               ignore_index=ignored, reduction='none')
        return loss.reshape(target.shape), target != ignored

    def _sigmoid(self, pred: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        if target.ndim < pred.ndim:
            counted = ((target >= 0) & (target != ignored))[..., None].expand_as(pred)
            target = target[..., None] == torch.arange(pred.shape[-1], device=pred.device)
        else:
            counted = (target >= 0) & (target != ignored)
        loss = F.binary_cross_entropy_with_logits(pred, target.to(pred.dtype), pos_weight=self._class_weight(pred),
                                                  reduction='none')
        return torch.where(counted, loss, 0), counted

    def _masks(self, pred: Tensor, target: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        loss = F.binary_cross_entropy_with_logits(pred, target.to(pred.dtype), reduction='none').flatten(1).mean(1)
        return loss, torch.ones_like(loss)

    def _class_weight(self, pred: Tensor) -> Tensor | None:
        return None if self.class_weight is None else pred.new_tensor(self.class_weight).expand(pred.shape[-1])
