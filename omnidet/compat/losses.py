"""Losses of the user's behind OmniDet's heads, and what `mmdet.models.losses` has for writing them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.models.parts.losses.reduce import weighted


@functools.cache
def taking_rows(cls: type[nn.Module]) -> type[nn.Module]:
    """A subclass of a loss that sees (M, K) predictions, (M,) labels and (M, 4) weights of boxes, as in MMDetection.

    OmniDet's heads call losses with a whole batch: (B, N, K). What a loss gives for each element goes back the same
    way.
    """
    def forward(self: Any, pred: Any, target: Any = None, weight: Any = None, *args: Any, **kwargs: Any) -> Any:
        shape = _rows(pred, target, weight)
        if shape is not None:
            pred, target, weight = (_flat(v, len(shape)) for v in (pred, target, weight))
        weight = _like_boxes(weight, pred, target)
        weights = () if weight is None and not args else (weight,)    # a loss need not know weights
        out = cls.forward(self, pred, target, *weights, *args, **kwargs)
        if shape is None or not isinstance(out, Tensor) or not out.ndim:
            return out
        return out.reshape(*shape, *out.shape[1:])
    # heads ask their classification loss whether it is one of sigmoids
    return type(cls.__name__, (cls,), {'forward': forward, '__module__': cls.__module__,
                                       'use_sigmoid': getattr(cls, 'use_sigmoid', False)})


def _rows(pred: Any, target: Any, weight: Any) -> tuple[int, ...] | None:
    """The leading dimensions of a prediction that are to become one; None where it is to stay as it is."""
    if not isinstance(pred, Tensor) or pred.ndim < 3:
        return None
    first = target[0] if isinstance(target, (tuple, list)) else target
    if not isinstance(first, Tensor):
        return None
    masks = first.ndim == pred.ndim and pred.shape[-1] != 4 and not (
        isinstance(weight, Tensor) and weight.ndim >= pred.ndim - 1)
    return None if masks else tuple(pred.shape[:-1])


def _flat(value: Any, depth: int) -> Any:
    """`value` with its first `depth` dimensions as one."""
    if isinstance(value, (tuple, list)):
        return type(value)(_flat(v, depth) for v in value)
    if not isinstance(value, Tensor) or value.ndim < depth:
        return value
    return value.flatten(0, depth - 1)


def _like_boxes(weight: Any, pred: Any, target: Any) -> Any:
    """A weight of each box for each of its four numbers, as heads of MMDetection give it."""
    boxes = isinstance(pred, Tensor) and isinstance(target, Tensor) and target.shape == pred.shape
    if not (boxes and isinstance(weight, Tensor) and pred.ndim == 2 and pred.shape[-1] == 4):
        return weight
    return (weight[:, None] if weight.ndim == 1 else weight).expand_as(pred)


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """`loss` by 'none', 'mean' or 'sum'."""
    return weighted(loss, None, reduction)


def weight_reduce_loss(loss: Tensor, weight: Tensor | None = None, reduction: str = 'mean',
                       avg_factor: Tensor | float | None = None) -> Tensor:
    """Weigh and reduce; see `omnidet.models.parts.losses.reduce.weighted`."""
    return loss if reduction == 'none' and weight is None else weighted(loss, weight, reduction, avg_factor)


def weighted_loss(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A decorator: `loss(pred, target)` of each element gets `weight`, `reduction` and `avg_factor`."""
    @functools.wraps(loss)
    def reduced(pred: Tensor, target: Any, weight: Tensor | None = None, reduction: str = 'mean',
                avg_factor: Tensor | float | None = None, **kwargs: Any) -> Tensor:
        return weight_reduce_loss(loss(pred, target, **kwargs), weight, reduction, avg_factor)
    return reduced


def sigmoid_focal_loss(pred: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25,
                       weight: Tensor | None = None, reduction: str = 'mean') -> Tensor:
    """`mmcv.ops.sigmoid_focal_loss`: (M, K) logits and (M,) labels, K for background."""
    one_hot = F.one_hot(target, pred.shape[-1] + 1)[:, :-1].to(pred.dtype)
    own = (2 * one_hot - 1) * pred    # the logit of what is true of each class
    loss = (-own).sigmoid() ** gamma * F.softplus(-own) * (alpha * one_hot + (1 - alpha) * (1 - one_hot))
    if weight is not None:
        loss = loss * weight[:, None]
    return loss if reduction == 'none' else loss.sum() / (len(pred) if reduction == 'mean' else 1)


def accuracy(pred: Tensor, target: Tensor, topk: int | tuple[int, ...] = 1, thresh: float | None = None) -> Any:
    """The share of (M, K) scores whose greatest ones have the label (M,), in percent."""
    counts = (topk,) if isinstance(topk, int) else topk
    scores, labels = pred.topk(max(counts), dim=1)
    right = labels == target[:, None]
    if thresh is not None:
        right = right & (scores > thresh)
    found = [right[:, :k].any(1).float().mean() * 100 if len(pred) else pred.new_zeros(()) for k in counts]
    return found[0] if isinstance(topk, int) else found
