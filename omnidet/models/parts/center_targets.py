"""Which points of a pyramid answer for the middles of objects, and how near they are (arXiv:2103.07461)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from omnidet.models.parts.heatmaps import BUDGET, max_into
from omnidet.ops.boxes import box_center, box_to_distance
from omnidet.structures import Priors, Targets

FAINT = 1e-4
"""Below this a heat is 0."""


class CenterTargets(NamedTuple):
    """What a head learns at N points.

    Attributes:
        heat: (B, K, N) in 0..1, 1 at the middle of an object of the class.
        gt: (B, N) int64, the nearest object whose box is regressed here; a safe index.
        positive: (B, N) bool, True where there is one.
    """

    heat: Tensor
    gt: Tensor
    positive: Tensor


class CenterCells(NamedTuple):
    """The 3 x 3 points around each object's middle, on every level.

    Attributes:
        index: (B, G, L, 9) int64 into the points, row by row; a safe index.
        usable: (B, G, L, 9) bool, True for a point of the map that lies in the object's box.
        middle: (B, G, L, 9) bool, True for the point in the middle, on levels that the object's size is meant for.
    """

    index: Tensor
    usable: Tensor
    middle: Tensor


def center_targets(priors: Priors, targets: Targets, ranges: Tensor, num_classes: int, min_radius: float,
                   min_overlap: float) -> CenterTargets:
    """Heat exp(-d^2 / (2 delta^2 area)) at a distance d from an object's middle, and whose box to regress.

    A point regresses an object if it lies in its box, at most one cell from its middle, on a level of its size; the
    nearest, by the same measure, where there are several. Distances are from the middle itself; the point whose cell
    it falls into has distance 0.

    Args:
        priors: points in the middles of their cells.
        targets: the ground truth.
        ranges: (L, 2), the least and greatest half diagonal in pixels that each level is meant for.
        num_classes: K.
        min_radius: the least square root of 2 delta^2 area, in pixels.
        min_overlap: delta is (1 - min_overlap) / (1 + min_overlap).
    """
    B, G, N = *targets.labels.shape, len(priors.boxes)
    heat = priors.boxes.new_zeros(B, num_classes, N)
    nearest = priors.boxes.new_full((B, N), torch.inf)
    gt = targets.labels.new_zeros(B, N)
    delta = (1 - min_overlap) / (1 + min_overlap)
    limits = torch.cat([r.expand(n, 2) for r, n in zip(ranges, priors.level_sizes, strict=True)])    # (N, 2)
    step = max(1, BUDGET // max(B * N, 1))
    for g in range(0, G, step):
        boxes, valid = targets.boxes[:, g:g + step], targets.valid[:, g:g + step, None]    # (B, g, 4), (B, g, 1)
        w, h = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
        distance, close = _distance(priors, box_center(boxes))    # (B, g, N)
        distance = distance / (2 * delta ** 2 * w * h).clamp(min=min_radius ** 2)[..., None]
        warmth = torch.exp(-distance) * valid
        max_into(heat, targets.labels[:, g:g + step], warmth.masked_fill(warmth < FAINT, 0))
        size = (w.square() + h.square()).sqrt()[..., None] / 2
        fits = (size >= limits[:, 0]) & (size <= limits[:, 1])
        inside = box_to_distance(box_center(priors.boxes), boxes[:, :, None]).amin(-1) > 0
        least, at = distance.masked_fill(~(inside & close & fits & valid), torch.inf).min(1)    # (B, N)
        gt = torch.where(least < nearest, at + g, gt)
        nearest = torch.minimum(nearest, least)
    return CenterTargets(heat, gt, nearest < torch.inf)


def _distance(priors: Priors, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Square distance of each point from each of (B, G, 2), and whether it is at most one cell from it: (B, G, N)."""
    points, stride = box_center(priors.boxes), priors.strides[:, None]    # (N, 2), (N, 1)
    centers = centers[:, :, None]    # (B, G, 1, 2)
    steps = points - ((centers / stride).floor() + 0.5) * stride    # (B, G, N, 2), from the middle's own point
    distance = (points - centers).square().sum(-1)
    return distance.masked_fill((steps == 0).all(-1), 0), (steps.abs() <= stride).all(-1)


def center_cells(priors: Priors, targets: Targets, ranges: Tensor) -> CenterCells:
    """The points around each object's middle; `priors` and `ranges` as in `center_targets`."""
    points = box_center(priors.boxes)
    levels = points.split(list(priors.level_sizes))
    widths = torch.stack([(p[:, 1] == p[0, 1]).sum() for p in levels])    # (L,), counted where the points are
    strides = torch.stack([s[0] for s in priors.strides.split(list(priors.level_sizes))])
    sizes = torch.stack([(p[:, 0] == p[0, 0]).sum() for p in levels])    # (L,), the heights
    starts = torch.cumsum(widths * sizes, 0) - widths * sizes
    step = torch.arange(9, device=points.device)
    cell = (box_center(targets.boxes)[:, :, None] / strides[:, None]).floor().long()    # (B, G, L, 2)
    x, y = cell[..., :1] + step % 3 - 1, cell[..., 1:] + step // 3 - 1    # (B, G, L, 9)
    on_map = (x >= 0) & (x < widths[:, None]) & (y >= 0) & (y < sizes[:, None]) & targets.valid[:, :, None, None]
    index = torch.where(on_map, starts[:, None] + y * widths[:, None] + x, 0)
    inside = box_to_distance(points[index], targets.boxes[:, :, None, None]).amin(-1) >= 0
    half = (targets.boxes[..., 2:] - targets.boxes[..., :2]).square().sum(-1, keepdim=True).sqrt() / 2    # (B, G, 1)
    fits = (half >= ranges[:, 0]) & (half <= ranges[:, 1])    # (B, G, L)
    return CenterCells(index, on_map & inside, on_map & fits[..., None] & (step == 4))
