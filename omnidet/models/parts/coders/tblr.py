"""Distances to the four sides in units of the prior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnidet.models.parts.coders.delta_xywh import center_and_side
from omnidet.ops.boxes import clip_boxes
from omnidet.registry import CODERS
from omnidet.structures import Priors


@CODERS.register
class TBLRBBoxCoder:
    """Distances from the prior's centre to the top, bottom, left and right sides (FSAF, arXiv:1903.00621).

    They are divided by the prior's height (top, bottom) and width (left, right), and by the normaliser.

    Args:
        normalizer: one number, or four for top, bottom, left, right.
        clip_border: keep decoded boxes inside the image where its size is given.
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    encode_size = 4

    def __init__(self, normalizer: float | Sequence[float] = 4.0, clip_border: bool = True,
                 use_box_type: bool = False) -> None:
        self.normalizer = (float(normalizer),) * 4 if isinstance(normalizer, (int, float)) else tuple(normalizer)
        self.clip_border = clip_border

    def _units(self, side: Tensor) -> Tensor:
        """(..., 4) pixels for one unit of top, bottom, left, right, from sides (..., 2) as (w, h)."""
        return side.flip(-1).repeat_interleave(2, -1) * side.new_tensor(self.normalizer)

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(..., N, 4) boxes -> (..., N, 4) distances to top, bottom, left, right."""
        center, side = center_and_side(priors.boxes.float())
        x, y = center.unbind(-1)
        x1, y1, x2, y2 = boxes.float().unbind(-1)
        return torch.stack([y - y1, y2 - y, x - x1, x2 - x], -1) / self._units(side)

    def decode(self, priors: Priors, deltas: Tensor, max_shape: Tensor | None = None) -> Tensor:
        """(..., N, 4) distances -> (..., N, 4) boxes in pixels.

        Args:
            max_shape: (..., 2), the (h, w) to clip to; no clipping where None.
        """
        center, side = center_and_side(priors.boxes.float())
        x, y = center.unbind(-1)
        top, bottom, left, right = (deltas.float() * self._units(side)).unbind(-1)
        boxes = torch.stack([x - left, y - top, x + right, y + bottom], -1)
        return clip_boxes(boxes, max_shape) if max_shape is not None and self.clip_border else boxes
