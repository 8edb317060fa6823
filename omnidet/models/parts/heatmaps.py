"""Objects as peaks of a map: drawn as Gaussians for training, and found again."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BUDGET = 2 ** 22
"""How many pairs of an object and a place are looked at in one go."""


class Peaks(NamedTuple):
    """The best places of each image's maps, best first.

    Attributes:
        scores: (B, k).
        labels: (B, k) int64, the map.
        at: (B, k) int64, the place, y * W + x.
    """

    scores: Tensor
    labels: Tensor
    at: Tensor


def gaussian_radius(h: Tensor, w: Tensor, min_overlap: float) -> Tensor:
    """How far the corners of a box of (h, w) may move so that it keeps an IoU of `min_overlap` with where it was.

    Both corners may move outwards, both inwards, or both in one direction; each is a quadratic equation, and the least
    of the three radii is the answer (CornerNet, arXiv:1808.01244, section 3.2).

    Args:
        h, w: (...,) sides, not negative.
        min_overlap: in 0..1.

    Returns:
        (...,) of the same unit.
    """
    side, area, o = h + w, h * w, min_overlap
    moved = (side - (side.square() - 4 * area * (1 - o) / (1 + o)).clamp(min=0).sqrt()) / 2
    inner = (side - (side.square() - 4 * area * (1 - o)).clamp(min=0).sqrt()) / 4
    outer = (-o * side + ((o * side).square() + 4 * o * (1 - o) * area).sqrt()) / (4 * o)
    return torch.minimum(torch.minimum(moved, inner), outer)


def gaussian_heatmap(centers: Tensor, radius: Tensor, labels: Tensor, valid: Tensor, num_classes: int,
                     shape: tuple[int, int]) -> Tensor:
    """For each class a map with a Gaussian around each of its objects; the greater one where they meet.

    A Gaussian has a sixth of its diameter 2 radius + 1 as its deviation and ends at the square of that side; it is 1
    at its centre (arXiv:1904.07850, section 3).

    Args:
        centers: (B, G, 2) int64, x and y on the map.
        radius: (B, G) int64.
        labels: (B, G) int64.
        valid: (B, G) bool, True for an object.
        num_classes: K.
        shape: (H, W) of the map.

    Returns:
        (B, K, H, W) float.
    """
    (B, G), (H, W) = labels.shape, shape
    sigma = (2 * radius + 1).float() / 6
    x, y = (_falloff(torch.arange(n, device=centers.device) - c[..., None], radius, sigma)
            for n, c in zip((W, H), centers.unbind(-1), strict=True))    # (B, G, W), (B, G, H)
    y = y * valid[..., None]
    out = x.new_zeros(B, num_classes, H * W)
    step = max(1, BUDGET // (B * H * W))
    for g in range(0, G, step):
        heat = (y[:, g:g + step, :, None] * x[:, g:g + step, None, :]).flatten(2)    # (B, step, H * W)
        max_into(out, labels[:, g:g + step], heat)
    return out.reshape(B, num_classes, H, W)


def max_into(out: Tensor, labels: Tensor, values: Tensor) -> None:
    """Let each class's map (B, K, N) be the greatest of what it is and what its objects give, (B, G, N); in place."""
    out.scatter_reduce_(1, labels[..., None].expand_as(values), values, 'amax')


def local_maxima(heat: Tensor, kernel: int) -> Tensor:
    """(B, K, H, W) with 0 wherever a neighbour within the window of `kernel` is greater."""
    greatest = F.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2)
    return heat * (greatest == heat)


def top_peaks(heat: Tensor, k: int) -> Peaks:
    """The k best places over all maps (B, K, H, W) of each image; fewer where there are not as many."""
    B, K, H, W = heat.shape
    scores, index = heat.reshape(B, -1).topk(min(k, K * H * W))
    return Peaks(scores, index // (H * W), index % (H * W))


def values_at(maps: Tensor, at: Tensor) -> Tensor:
    """What maps (B, C, H, W) are at places (B, k): (B, k, C)."""
    return maps.flatten(2).gather(2, at[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def on_map(xy: Tensor, cell: tuple[float, float]) -> Tensor:
    """Boxes (..., 4) or places (..., 2) in pixels, in cells of a map, each of which has `cell` (x, y) pixels."""
    return in_pixels(xy, (1 / cell[0], 1 / cell[1]))


def in_pixels(xy: Tensor, cell: tuple[float, float]) -> Tensor:
    """Boxes (..., 4) or places (..., 2) of a map, whose cells have `cell` (x, y) pixels, in pixels."""
    return torch.stack([v * cell[i % 2] for i, v in enumerate(xy.unbind(-1))], -1)


def cells_of(xy: Tensor, shape: tuple[int, int]) -> Tensor:
    """The cells (..., 2) int64, x and y, of a map of `shape` (H, W) that places (..., 2) lie in, or next to."""
    return torch.stack([v.long().clamp(0, n - 1) for v, n in zip(xy.unbind(-1), shape[::-1], strict=True)], -1)


def visible(at: Tensor, valid: Tensor) -> Tensor:
    """(B, G) float: 1 for an object, 0 where a later one has the same place `at` (B, G): a map holds one value."""
    later = torch.ones(at.shape[1], at.shape[1], dtype=torch.bool, device=at.device).triu(1)
    hidden = ((at[:, :, None] == at[:, None, :]) & valid[:, None, :] & later).any(-1)
    return (valid & ~hidden).float()


def _falloff(distance: Tensor, radius: Tensor, sigma: Tensor) -> Tensor:
    """exp(-d^2 / (2 sigma^2)) within the radius, 0 outside."""
    heat = torch.exp(-distance.square() / (2 * sigma.square())[..., None])
    return heat * (distance.abs() <= radius[..., None])
