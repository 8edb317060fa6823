"""Sides of a box as a bucket and an offset within it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from omnidet.ops.boxes import box_center, clip_boxes
from omnidet.registry import CODERS
from omnidet.structures import Priors

Buckets = tuple[Tensor, Tensor]


class BucketTargets(NamedTuple):
    """What `BucketingBBoxCoder` encodes; S buckets for each of left, right, top, bottom, in this order.

    Attributes:
        offsets: (..., N, 4 * S) from each bucket's centre to the side, in buckets.
        offset_weights: (..., N, 4 * S), 1 for the nearest bucket, and for the next nearest that are near enough.
        labels: (..., N, 4 * S), 1 for the nearest bucket, 0 for the others.
        label_weights: (..., N, 4 * S), 0 where a bucket is neither the nearest nor clearly another one.
    """

    offsets: Tensor
    offset_weights: Tensor
    labels: Tensor
    label_weights: Tensor


@CODERS.register
class BucketingBBoxCoder:
    """Side-aware boundary localisation (SABL, arXiv:1912.04260, section 3).

    The prior, scaled by `scale_factor`, is cut into `num_buckets` along each axis; the half of them nearest to a side
    (rounded up) are that side's buckets. A head says which bucket holds the side, and where in it.

    Args:
        num_buckets: buckets along an axis.
        scale_factor: by how much the prior is enlarged about its centre.
        offset_topk: how many of the nearest buckets regress an offset.
        offset_upperbound: the offset, in buckets, below which a bucket that is not the nearest regresses.
        cls_ignore_neighbor: leave buckets out of the classification that are not the nearest and yet within one bucket.
        clip_border: keep decoded boxes inside the image where its size is given.
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    def __init__(self, num_buckets: int, scale_factor: float, offset_topk: int = 2, offset_upperbound: float = 1.0,
                 cls_ignore_neighbor: bool = True, clip_border: bool = True, use_box_type: bool = False) -> None:
        self.num_buckets, self.scale_factor = num_buckets, scale_factor
        self.offset_topk, self.offset_upperbound = offset_topk, offset_upperbound
        self.cls_ignore_neighbor, self.clip_border = cls_ignore_neighbor, clip_border
        self.side_num = math.ceil(num_buckets / 2)
        self.encode_size = 4 * self.side_num

    def encode(self, priors: Priors, boxes: Tensor) -> BucketTargets:
        """What a head should say of (..., N, 4) boxes at N priors."""
        centers, width = self._grid(priors)
        sides = boxes.float()[..., [0, 2, 1, 3]]    # left, right, top, bottom
        offsets = (centers - sides[..., None]) / width[..., None]    # (..., N, 4, S)
        order = offsets.abs().argsort(-1)
        rank = order.argsort(-1)
        labels = rank == 0
        near = offsets.abs() < self.offset_upperbound
        offset_weights = labels | ((rank < self.offset_topk) & near)
        doubtful = (offsets.abs() < 1) & ~labels
        label_weights = ~doubtful if self.cls_ignore_neighbor else torch.ones_like(labels)
        return BucketTargets(*(t.float().flatten(-2) for t in (offsets, offset_weights, labels, label_weights)))

    def decode(self, priors: Priors, deltas: Buckets, max_shape: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Boxes (..., N, 4) in pixels, and how sure their sides are (..., N), in 0..1.

        Args:
            deltas: bucket logits and offsets, (..., N, 4 * S) each.
            max_shape: (..., 2), the (h, w) to clip to; no clipping where None.
        """
        logits, offsets = (t.float().unflatten(-1, (4, self.side_num)) for t in deltas)
        centers, width = self._grid(priors)
        scores, index = logits.softmax(-1).topk(min(2, self.side_num), -1)    # (..., N, 4, 2)
        best = index[..., :1]
        side = centers.expand_as(offsets).gather(-1, best)[..., 0] - offsets.gather(-1, best)[..., 0] * width
        boxes = side[..., [0, 2, 1, 3]]    # left, top, right, bottom
        # a neighbour's score speaks for the same side
        neighbour = (index - best).abs() <= 1
        confidence = (scores * neighbour).sum(-1).mean(-1)
        if max_shape is not None and self.clip_border:
            boxes = clip_boxes(boxes, max_shape)
        return boxes, confidence

    def _grid(self, priors: Priors) -> tuple[Tensor, Tensor]:
        """The buckets' centres (..., N, 4, S) and widths (..., N, 4) in pixels, for left, right, top, bottom."""
        boxes = priors.boxes.float()
        center, half = box_center(boxes), (boxes[..., 2:] - boxes[..., :2]) / 2 * self.scale_factor
        width = (2 * half / self.num_buckets)[..., [0, 0, 1, 1]].clamp(min=1e-6)
        edge = torch.stack([center - half, center + half], -1).flatten(-2)    # left, right, top, bottom
        inward = edge.new_tensor([1.0, -1.0, 1.0, -1.0])
        steps = torch.arange(self.side_num, device=edge.device) + 0.5
        return edge[..., None] + (inward * width)[..., None] * steps, width
