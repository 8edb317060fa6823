"""How central a point lies in its box."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.ops.boxes import box_to_distance


def centerness(points: Tensor, boxes: Tensor, inside: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) (FCOS, arXiv:1904.01355, equation 3).

    Args:
        points: (..., 2).
        boxes: (..., 4).
        inside: (...,) bool, where a point lies in its box; elsewhere the result is 0.

    Returns:
        (...,) in 0..1: 1 in the middle of the box, 0 on its sides.
    """
    sides = torch.where(inside[..., None], box_to_distance(points, boxes), 1)
    l, t, r, b = sides.unbind(-1)
    ratio = torch.minimum(l, r) / torch.maximum(l, r) * (torch.minimum(t, b) / torch.maximum(t, b))
    return ratio.clamp(min=0).sqrt() * inside
