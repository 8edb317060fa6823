"""Distances from a point to the sides of a box."""

from __future__ import annotations

from torch import Tensor

from omnidet.ops.boxes import box_center, box_to_distance, clip_boxes, distance_to_box
from omnidet.registry import CODERS
from omnidet.structures import Priors


@CODERS.register
class DistancePointBBoxCoder:
    """Distances in pixels from a prior's centre to the sides of its box (FCOS, arXiv:1904.01355).

    Args:
        clip_border: keep decoded boxes inside the image where its size is given.
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    def __init__(self, clip_border: bool = True, use_box_type: bool = False) -> None:
        self.clip_border = clip_border

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(..., N, 4) boxes -> (..., N, 4) distances to left, top, right, bottom, in pixels."""
        return box_to_distance(box_center(priors.boxes), boxes)

    def decode(self, priors: Priors, deltas: Tensor, max_shape: Tensor | None = None) -> Tensor:
        """(..., N, 4) distances -> (..., N, 4) boxes.

        Args:
            max_shape: (..., 2), the (h, w) to clip to; no clipping where None.
        """
        boxes = distance_to_box(box_center(priors.boxes), deltas)
        return clip_boxes(boxes, max_shape) if max_shape is not None and self.clip_border else boxes
