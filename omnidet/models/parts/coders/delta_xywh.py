"""Boxes as shifts and scales of a prior: what the R-CNN line regresses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from omnidet.ops.boxes import clip_boxes
from omnidet.registry import CODERS
from omnidet.structures import Priors

SMALLEST = 1e-6
"""The least side in pixels that a logarithm or a division meets: a box without extent gives a finite number."""


@CODERS.register
class DeltaXYWHBBoxCoder:
    """Shift of the centre in sides of the prior, and logarithm of the ratio of sides (arXiv:1311.2524, appendix C).

        dx = (gx - px) / pw,  dy = (gy - py) / ph,  dw = log(gw / pw),  dh = log(gh / ph)

    less `target_means`, divided by `target_stds`.

    Args:
        target_means, target_stds: four numbers each, for dx, dy, dw, dh.
        clip_border: keep decoded boxes inside the image where its size is given.
        add_ctr_clamp: hold the decoded shift of the centre within `ctr_clamp` pixels, and the scale from above alone
            (YOLOF, arXiv:2103.09460).
        ctr_clamp: see `add_ctr_clamp`.
        wh_ratio_clip: the least ratio of decoded and prior side; its inverse is the largest.
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    encode_size = 4

    def __init__(self, target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
                 target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0), clip_border: bool = True,
                 add_ctr_clamp: bool = False, ctr_clamp: int = 32, wh_ratio_clip: float = 16 / 1000,
                 use_box_type: bool = False) -> None:
        self.target_means, self.target_stds = tuple(target_means), tuple(target_stds)
        self.clip_border, self.add_ctr_clamp, self.ctr_clamp = clip_border, add_ctr_clamp, ctr_clamp
        self.max_log_ratio = abs(math.log(wh_ratio_clip))

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(..., N, 4) boxes -> (..., N, 4) deltas."""
        center, side = center_and_side(priors.boxes.float())
        gt_center, gt_side = center_and_side(boxes.float())
        deltas = torch.cat([(gt_center - center) / side, (gt_side / side).log()], -1)
        return standardise(deltas, self.target_means, self.target_stds)

    def decode(self, priors: Priors, deltas: Tensor, max_shape: Tensor | None = None) -> Tensor:
        """(..., N, 4) deltas -> (..., N, 4) boxes in pixels.

        Args:
            priors: boxes of a shape that broadcasts with `deltas`.
            max_shape: (..., 2), the (h, w) to clip to; no clipping where None.
        """
        deltas = destandardise(deltas.float(), self.target_means, self.target_stds)
        center, side = center_and_side(priors.boxes.float())
        shift, log_ratio = deltas[..., :2] * side, deltas[..., 2:]
        if self.add_ctr_clamp:
            shift = shift.clamp(-self.ctr_clamp, self.ctr_clamp)
            log_ratio = log_ratio.clamp(max=self.max_log_ratio)
        else:
            log_ratio = log_ratio.clamp(-self.max_log_ratio, self.max_log_ratio)
        center, half = center + shift, side * log_ratio.exp() / 2
        boxes = torch.cat([center - half, center + half], -1)
        return clip_boxes(boxes, max_shape) if max_shape is not None and self.clip_border else boxes


@CODERS.register
class LegacyDeltaXYWHBBoxCoder:
    """The same for the models of MMDetection 1.x, whose sides are x2 - x1 + 1: both end pixels count.

    Decoded corners lie half a side from the centre, so that boxes come out one pixel larger than they went in. That is
    how MMDetection 2 and 3 run these models: their boxes score better so.

    Args:
        target_means, target_stds: four numbers each, for dx, dy, dw, dh.
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    encode_size = 4
    max_log_ratio = abs(math.log(16 / 1000))

    def __init__(self, target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
                 target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0), use_box_type: bool = False) -> None:
        self.target_means, self.target_stds = tuple(target_means), tuple(target_stds)

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(..., N, 4) boxes -> (..., N, 4) deltas."""
        center, side = center_and_side(priors.boxes.float(), extra=1)
        gt_center, gt_side = center_and_side(boxes.float(), extra=1)
        deltas = torch.cat([(gt_center - center) / side, (gt_side / side).log()], -1)
        return standardise(deltas, self.target_means, self.target_stds)

    def decode(self, priors: Priors, deltas: Tensor, max_shape: Tensor | None = None) -> Tensor:
        """(..., N, 4) deltas -> (..., N, 4) boxes in pixels, with `max_shape` (..., 2) up to (h - 1, w - 1)."""
        deltas = destandardise(deltas.float(), self.target_means, self.target_stds)
        center, side = center_and_side(priors.boxes.float(), extra=1)
        center = center + deltas[..., :2] * side
        half = side * deltas[..., 2:].clamp(-self.max_log_ratio, self.max_log_ratio).exp() / 2
        boxes = torch.cat([center - half, center + half], -1)
        return boxes if max_shape is None else clip_boxes(boxes, max_shape - 1)


def center_and_side(boxes: Tensor, extra: float = 0) -> tuple[Tensor, Tensor]:
    """Centres (..., 2) and sides (..., 2) of boxes (..., 4); `extra` pixels are added to a side."""
    corner, other = boxes[..., :2], boxes[..., 2:]
    return (corner + other) / 2, (other - corner + extra).clamp(min=SMALLEST)


def standardise(deltas: Tensor, means: Sequence[float], stds: Sequence[float]) -> Tensor:
    """(deltas - means) / stds, over the last dimension."""
    if not any(means) and all(s == 1 for s in stds):
        return deltas
    return (deltas - deltas.new_tensor(means)) / deltas.new_tensor(stds)


def destandardise(deltas: Tensor, means: Sequence[float], stds: Sequence[float]) -> Tensor:
    """deltas * stds + means, over the last dimension."""
    if not any(means) and all(s == 1 for s in stds):
        return deltas
    return deltas * deltas.new_tensor(stds) + deltas.new_tensor(means)
