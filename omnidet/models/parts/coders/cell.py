"""Boxes around a cell of a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.ops.boxes import box_center
from omnidet.registry import CODERS
from omnidet.structures import Priors


@CODERS.register
class CellBBoxCoder:
    """A box's centre from the corner of a cell, and the logarithm of its sides, in strides (YOLOX, arXiv:2107.08430).

    A prior is the point in the middle of its cell. Decoded boxes may leave the image.
    """

    encode_size = 4

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(..., N, 4) boxes -> (..., N, 4) deltas (x, y, log w, log h)."""
        stride = priors.strides[..., None]
        center = (box_center(boxes) - box_center(priors.boxes)) / stride + 0.5
        return torch.cat([center, ((boxes[..., 2:] - boxes[..., :2]) / stride + 1e-8).log()], -1)

    def decode(self, priors: Priors, deltas: Tensor, max_shape: Tensor | None = None) -> Tensor:
        """(..., N, 4) deltas -> (..., N, 4) boxes.

        Args:
            max_shape: not looked at.
        """
        stride = priors.strides[..., None]
        center = deltas[..., :2] * stride + (box_center(priors.boxes) - 0.5 * stride)
        half = deltas[..., 2:].exp() * stride / 2
        return torch.cat([center - half, center + half], -1)
