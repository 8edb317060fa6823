"""Values of maps and masks at points, and points where a map is uncertain (PointRend, arXiv:1912.08193).

Points are x and y in 0..1 of the image. Sampling is bilinear between the centres of pixels, with zeros outside, as
`grid_sample(align_corners=False)` does it. Nothing here synchronises with the device.

Letters: B images, C channels, M maps or masks, P points.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from omnidet.masks import InstanceMasks


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Maps at points: (B, C, H, W) and (B, P, 2) -> (B, C, P)."""
    grid = (2 * points - 1)[:, :, None].to(maps.dtype)    # (B, P, 1, 2)
    return F.grid_sample(maps, grid, mode='bilinear', padding_mode='zeros', align_corners=False)[..., 0]


def sample_masks(masks: InstanceMasks, instance: Tensor, points: Tensor) -> Tensor:
    """Masks at points, straight from their windows.

    Args:
        masks: (...,), of any leading dimensions.
        instance: (M,) int64 into all masks, their leading dimensions flattened.
        points: (M, P, 2).

    Returns:
        (M, P) float32 in 0..1.
    """
    out = torch.zeros(points.shape[:2], device=points.device)
    if not masks.bits.numel():
        return out
    x1, y1, x2, y2 = masks.windows.reshape(-1, 4)[instance].unsqueeze(-1).unbind(1)    # (M, 1)
    start = masks.starts.reshape(-1)[instance][:, None]
    for x, y, share in _neighbours(points, masks.size):
        inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
        at = torch.where(inside, (y - y1) * (x2 - x1) + x - x1 + start, 0)
        out += masks.bits[at] * inside * share
    return out


def sample_class(sem_seg: Tensor, image: Tensor, label: Tensor, points: Tensor) -> Tensor:
    """The pixels of a class as a mask, at points.

    Args:
        sem_seg: (B, H, W) int64.
        image: (M,) int64, which map is looked at.
        label: (M,) int64, for which class.
        points: (M, P, 2).

    Returns:
        (M, P) float32 in 0..1.
    """
    _, H, W = sem_seg.shape
    out = torch.zeros(points.shape[:2], device=points.device)
    for x, y, share in _neighbours(points, (H, W)):
        inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
        value = sem_seg.flatten()[(image[:, None] * H + y.clamp(0, H - 1)) * W + x.clamp(0, W - 1)]
        out += ((value == label[:, None]) & inside) * share
    return out


def sample_classes(sem_seg: Tensor, first: int, count: int, points: Tensor) -> Tensor:
    """The pixels of each of several classes as masks, at points.

    Args:
        sem_seg: (B, H, W) int64.
        first, count: the classes.
        points: (B, P, 2).

    Returns:
        (B, count, P) float32 in 0..1.
    """
    B, H, W = sem_seg.shape
    out = torch.zeros(B, count + 1, points.shape[1], device=points.device)    # the last takes every other class
    image = torch.arange(B, device=points.device)[:, None]
    for x, y, share in _neighbours(points, (H, W)):
        inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
        value = sem_seg[image, y.clamp(0, H - 1), x.clamp(0, W - 1)] - first
        value = torch.where(inside & (value >= 0) & (value < count), value, count)
        out.scatter_add_(1, value[:, None], share[:, None])
    return out[:, :count]


def even_points(count: int, num_points: int, device: torch.device) -> Tensor:
    """`count` sets of random points that lie evenly: (count, num_points, 2).

    Each is as likely anywhere as a uniform one; together they are the additive recurrence of the plastic number (a
    sequence of low discrepancy) behind a random shift. Means over them vary far less than over independent points.
    """
    n = torch.arange(num_points, device=device)
    steps = (3242174889, 2447445414)    # 2^32 over 1.3247... and over its square
    sequence = torch.stack([n * step & 0xFFFFFFFF for step in steps], 1).to(torch.float32) / 2 ** 32
    return (sequence + torch.rand(count, 1, 2, device=device)).frac()


@torch.no_grad()
def uncertain_points(maps: Tensor, num_points: int, oversample_ratio: float, importance_sample_ratio: float) -> Tensor:
    """Points that lie mostly where logits are near 0, drawn by chance (PointRend, section 3.2).

    Args:
        maps: (M, H, W) logits.
        num_points: P.
        oversample_ratio: how many times P are drawn, for the most uncertain to be taken.
        importance_sample_ratio: the share of P that are the most uncertain ones; the others lie anywhere.

    Returns:
        (M, P, 2).
    """
    M = len(maps)
    points = even_points(M, int(num_points * oversample_ratio), maps.device)
    some = int(importance_sample_ratio * num_points)
    logits = sample_maps(maps[:, None], points)[:, 0]    # (M, oversampled)
    best = logits.abs().topk(some, dim=1, largest=False, sorted=False).indices
    chosen = points.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, even_points(M, num_points - some, maps.device)], 1)


def _neighbours(points: Tensor, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The four pixels around points (..., 2) in an image of `size` (H, W): x and y (...,) int64, and what each counts.

    They may lie outside.
    """
    x, y = points[..., 0].float() * size[1] - 0.5, points[..., 1].float() * size[0] - 0.5
    left, top = x.floor(), y.floor()
    right, below = x - left, y - top
    for column, share_x in ((left.long(), 1 - right), (left.long() + 1, right)):
        for row, share_y in ((top.long(), 1 - below), (top.long() + 1, below)):
            yield column, row, share_x * share_y
