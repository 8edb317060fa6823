"""A few images at a time, so that the pairs of priors and objects fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from omnidet.structures import Assignment, Predictions, Priors, Targets

PAIRS = 2 ** 23
"""The most prior-object pairs to hold at a time."""

Assign = Callable[[Priors, Targets, Tensor, Predictions | None], Assignment]


def by_images(assign: Assign, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions | None,
              budget: int = PAIRS) -> Assignment:
    """`assign` over all images, as many at a time as `budget` pairs allow, and at least one.

    Args:
        assign: takes the arguments of an assigner.
        priors, targets, inside, preds: see `MaxIoUAssigner`.
        budget: the most prior-object pairs to hold at a time.
    """
    B, pairs = len(targets), max(len(priors.strides) * targets.boxes.shape[1], 1)
    step = max(1, budget // pairs)
    if step >= B:
        return assign(priors, targets, inside, preds)
    parts = [assign(priors, targets[i:i + step], inside[i:i + step], None if preds is None else Predictions(
        *(None if p is None else p[i:i + step] for p in preds))) for i in range(0, B, step)]
    return Assignment(*(torch.cat(p) for p in zip(*parts, strict=True)))
