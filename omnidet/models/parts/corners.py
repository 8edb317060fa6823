"""Objects as pairs of corners: drawn on maps for training, found and paired again (CornerNet, arXiv:1808.01244)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from omnidet.models.parts.heatmaps import (
    cells_of,
    gaussian_heatmap,
    gaussian_radius,
    in_pixels,
    local_maxima,
    on_map,
    top_peaks,
    values_at,
    visible,
)
from omnidet.structures import Targets

SIDES = ('tl', 'br')
"""What the names of maps begin with: top-left and bottom-right."""

MIN_OVERLAP = 0.3
"""The IoU that a box keeps when its corners move by the radius of their Gaussians."""

MOST = 1000
"""How many pairs of an image go on to suppression."""

LARGE_AREA = 3500
"""Squared pixels above which a box's central region is the larger one (CentripetalNet, arXiv:2003.09119)."""

CENTRAL_SHARES = (1 / 2.4, 1 / 2.1)
"""The sides of the central region as shares of the box's, for small boxes and for large ones."""


class Corner(NamedTuple):
    """One corner of each object, on a map of (H, W).

    Attributes:
        heat: (B, K, H, W), a Gaussian around each.
        xy: (B, G, 2), where it is, in cells.
        place: (B, G, 2) int64, the cell that it is in.
        at: (B, G) int64, the same as y * W + x.
        seen: (B, G) float: 1 for an object's; 0 where there is none, or a later object's is in the same cell.
    """

    heat: Tensor
    xy: Tensor
    place: Tensor
    at: Tensor
    seen: Tensor


class FoundCorners(NamedTuple):
    """The best corners of one side, best first.

    Attributes:
        scores: (B, k).
        labels: (B, k) int64.
        at: (B, k) int64, the cell, y * W + x.
        xy: (B, k, 2), where it is, in cells.
    """

    scores: Tensor
    labels: Tensor
    at: Tensor
    xy: Tensor


def draw_corners(targets: Targets, num_classes: int, shape: tuple[int, int], cell: tuple[float, float]
                 ) -> dict[str, Corner]:
    """Both corners of all objects on maps of `shape` (H, W), whose cells have `cell` (x, y) pixels: {side: corner}."""
    boxes = on_map(targets.boxes, cell)
    w, h = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).ceil().unbind(-1)
    radius = gaussian_radius(h, w, MIN_OVERLAP).long()
    corners = {}
    for side, xy in zip(SIDES, (boxes[..., :2], boxes[..., 2:]), strict=True):
        place = cells_of(xy, shape)
        heat = gaussian_heatmap(place, radius, targets.labels, targets.valid, num_classes, shape)
        at = place[..., 1] * shape[1] + place[..., 0]
        corners[side] = Corner(heat, xy, place, at, visible(at, targets.valid))
    return corners


def at_corners(loss: nn.Module, maps: Tensor, corner: Corner, target: Tensor) -> Tensor:
    """A loss at the cells of corners, meaned over them and added up over the levels.

    Args:
        loss: called with pred, target, weight and avg_factor.
        maps: (S, B, C, H, W), those of S levels.
        corner: the cells.
        target: (B, G, C).
    """
    count = corner.seen.sum().clamp(min=1)
    total: Tensor = sum(loss(values_at(m, corner.at), target, corner.seen, avg_factor=count) for m in maps)
    return total


def corner_losses(out: Mapping[str, Tensor], corners: Mapping[str, Corner], loss_heatmap: nn.Module,
                  loss_offset: nn.Module) -> dict[str, Tensor]:
    """What all corner heads learn: which cells are corners of which class, and the fraction of a cell.

    Args:
        out: tl_heat and br_heat (S, B, K, H, W), logits; tl_off and br_off (S, B, 2, H, W), of S levels.
        corners: the ground truth.
        loss_heatmap, loss_offset: the losses.
    """
    det, off = [], []
    for side, corner in corners.items():
        count = (corner.heat == 1).sum().clamp(min=1)
        det += [loss_heatmap(m.sigmoid(), corner.heat, avg_factor=count) for m in out[f'{side}_heat']]
        off.append(at_corners(loss_offset, out[f'{side}_off'], corner, corner.xy - corner.place))
    return {'det_loss': torch.stack(det).sum() / 2, 'off_loss': torch.stack(off).sum() / 2}


def find_corners(out: Mapping[str, Tensor], side: str, topk: int, kernel: int) -> FoundCorners:
    """The `topk` best corners of a side that are greatest in their window, on the last level's maps."""
    heat, offset = out[f'{side}_heat'][-1], out[f'{side}_off'][-1]
    peaks = top_peaks(local_maxima(heat.sigmoid(), kernel), topk)
    W = heat.shape[-1]
    place = torch.stack([peaks.at % W, peaks.at // W], -1)    # (B, k, 2)
    return FoundCorners(peaks.scores, peaks.labels, peaks.at, place + values_at(offset, peaks.at))


def in_picture(xy: Tensor, cell: tuple[float, float], origin: Tensor) -> Tensor:
    """Places (B, k, 2) of a map in pixels of the batch, none before the picture's `origin` (B, 2)."""
    return torch.maximum(in_pixels(xy, cell), origin[:, None])


def all_pairs(tl: Tensor, br: Tensor) -> Tensor:
    """Boxes (B, k, k, 4) between each of the places `tl` and each of `br`, both (B, k, 2)."""
    k = tl.shape[1], br.shape[1]
    return torch.cat([tl[:, :, None].expand(-1, -1, k[1], -1), br[:, None].expand(-1, k[0], -1, -1)], -1)


def best_pairs(boxes: Tensor, fits: Tensor, tl: FoundCorners, br: FoundCorners, most: int = MOST
               ) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs that may be objects: of one class, the one corner above and left of the other.

    Args:
        boxes: (B, k, k, 4), see `all_pairs`.
        fits: (B, k, k) bool, True where the two corners may be one object's.
        tl, br: the corners.
        most: how many pairs come out, fewer where there are not as many.

    Returns:
        Boxes (B, m, 4), scores (B, m), the mean of the two corners', -1 for pairs that are no object; labels (B, m).
    """
    fits = fits & (tl.labels[:, :, None] == br.labels[:, None]) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
    scores = (tl.scores[:, :, None] + br.scores[:, None]) / 2
    scores = scores.masked_fill(~fits, -1).flatten(1)
    scores, index = scores.topk(min(most, scores.shape[1]))
    boxes = boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4))
    return boxes, scores, tl.labels.gather(1, index // br.labels.shape[1])


def share_a_center(boxes: Tensor, centers: Tensor, threshold: float) -> Tensor:
    """Whether both corners of a box say that its centre is near its middle, and near each other.

    Both must lie inside the central region, which is smaller than the box, and the box between them must not have more
    than `threshold` of that region's area (CentripetalNet, arXiv:2003.09119).

    Args:
        boxes: (..., 4) in pixels.
        centers: (..., 4), the centre as the top-left corner says it and as the other one does.

    Returns:
        (...,) bool.
    """
    size, middle = boxes[..., 2:] - boxes[..., :2], (boxes[..., 2:] + boxes[..., :2]) / 2
    small, large = CENTRAL_SHARES
    large_box = size.prod(-1, keepdim=True).abs() > LARGE_AREA
    half = torch.where(large_box, large, small) * size / 2
    tl, br = centers[..., :2], centers[..., 2:]
    inside = [((c > middle - half) & (c < middle + half)).all(-1) for c in (tl, br)]
    near = (br - tl).prod(-1).abs() <= threshold * (2 * half).prod(-1).abs()
    return inside[0] & inside[1] & near
