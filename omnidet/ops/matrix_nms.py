"""Matrix NMS: masks suppress each other all at once, by lower scores."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.errors import ConfigError

KERNELS = ('gaussian', 'linear')


def matrix_nms(masks: Tensor, labels: Tensor, scores: Tensor, area: Tensor | None = None, *, nms_pre: int = -1,
               max_num: int = -1, kernel: str = 'gaussian', sigma: float = 2.0, filter_thr: float = -1.0
               ) -> tuple[Tensor, Tensor]:
    """Lower each mask's score by its overlap with better ones of its class (SOLOv2, arXiv:2003.10152, equation 4).

    The factor of mask j is the least, over better masks i, of f(iou_ij) / f(iou_*i), where iou_*i is the largest
    overlap of i with what is better still: how likely it is that i itself is suppressed.

    Args:
        masks: (K, h, w) bool.
        labels: (K,) int64.
        scores: (K,).
        area: (K,), pixels of each mask; counted where None.
        nms_pre: the most masks to begin with, the best ones; all where not positive.
        max_num: the most masks to return; all where not positive.
        kernel: f(x) is exp(-sigma x^2) with 'gaussian', 1 - x with 'linear'.
        sigma: see `kernel`.
        filter_thr: the lowered score that a mask must reach; none where not positive.

    Returns:
        Indices (R,) into the masks, best first, and their lowered scores (R,).

    Raises:
        ConfigError: an unknown kernel.
    """
    if kernel not in KERNELS:
        raise ConfigError(f'matrix NMS: kernel is {kernel!r}; allowed are {KERNELS}')
    scores, order = scores.sort(descending=True, stable=True)
    if nms_pre > 0:
        scores, order = scores[:nms_pre], order[:nms_pre]
    if not len(order):
        return order, scores
    scores = scores * _decay(masks[order], labels[order], None if area is None else area[order], kernel, sigma)
    keep = (scores >= filter_thr).nonzero()[:, 0] if filter_thr > 0 else torch.arange(len(scores), device=scores.device)
    keep = keep[scores[keep].argsort(descending=True, stable=True)]
    keep = keep[:max_num] if max_num > 0 else keep
    return order[keep], scores[keep]


def _decay(masks: Tensor, labels: Tensor, area: Tensor | None, kernel: str, sigma: float) -> Tensor:
    """(K,) factors of the scores of masks that are sorted by them."""
    flat = masks.flatten(1).float()
    area = flat.sum(1) if area is None else area.float()
    inter = flat @ flat.T
    iou = inter / (area[:, None] + area - inter).clamp(min=1)
    iou = (iou * (labels[:, None] == labels)).triu(diagonal=1)    # (K, K): i is better than j
    worst = iou.amax(0)[:, None]    # (K, 1), by how much i overlaps what is better
    if kernel == 'gaussian':
        factor = torch.exp(-sigma * (iou.square() - worst.square()))
    else:
        factor = (1 - iou) / (1 - worst).clamp(min=1e-6)
    return factor.amin(0)
