"""Boxes in parts of an image: centre and size (cxcywh) in 0..1, which is what queries regress."""

from __future__ import annotations

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Corners (..., 4) of boxes (..., 4) given by centre and size."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Centre and size (..., 4) of boxes (..., 4) given by their corners."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def image_scale(sizes: Tensor) -> Tensor:
    """(B, 1, 4) float (w, h, w, h) of images of sizes (B, 2) as (h, w): pixels of a box in 0..1."""
    return sizes.flip(-1).float().repeat(1, 2)[:, None]


def inverse_sigmoid(p: Tensor, eps: float = 1e-5) -> Tensor:
    """The logit of `p` (...,), with p and 1 - p held above `eps`."""
    p = p.clamp(0, 1)
    return (p.clamp(min=eps) / (1 - p).clamp(min=eps)).log()


def shift_boxes(boxes: Tensor, deltas: Tensor, eps: float = 1e-5) -> Tensor:
    """Boxes moved and resized before the sigmoid (arXiv:2010.04159, appendix A.4).

    Args:
        boxes: (..., 4) cxcywh in 0..1, or (..., 2) centres, whose sizes then come from `deltas` alone.
        deltas: (..., 4), what is added to the boxes' logits.
        eps: see `inverse_sigmoid`.

    Returns:
        (..., 4) cxcywh in 0..1.
    """
    base = inverse_sigmoid(boxes, eps)
    if base.shape[-1] == 2:
        base = torch.cat([base, torch.zeros_like(base)], -1)
    return (deltas + base).sigmoid()
