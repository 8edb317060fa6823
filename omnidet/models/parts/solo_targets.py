"""Which cells of which grids answer for an object, by its size and its centre of mass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from omnidet.masks import InstanceMasks
from omnidet.ops.masks import mass_and_center
from omnidet.structures import Targets


class GridTargets(NamedTuple):
    """What the cells of all grids should predict.

    Attributes:
        gt: (B, N) int64, the object whose class a cell should have; -1 for none.
        cell: (B, G * L * 9) int64, the cells that may answer for each object, a safe index.
        trained: (B, G * L * 9) bool, whether that cell does. An object has at most 3 x 3 of each grid, and one cell may
            answer for several objects.
        per_gt: how many entries of `cell` each object has.
    """

    gt: Tensor
    cell: Tensor
    trained: Tensor
    per_gt: int


def grid_targets(targets: Targets, masks: InstanceMasks, grids: Sequence[int], ranges: Sequence[tuple[float, float]],
                 pos_scale: float, size: tuple[int, int]) -> GridTargets:
    """SOLO's assignment (arXiv:1912.04488, section 3.3.1), of all images at once.

    A grid takes the objects whose sqrt(w h) lies in its range. The cells that a box around the object's centre of mass
    covers are positive, `pos_scale` of the object's box in size, and at most one cell away from the centre's own.

    Args:
        targets: the ground truth.
        masks: (B, G), its masks.
        grids: cells on either side of each of the L grids.
        ranges: (least, greatest) size in pixels of each grid's objects.
        pos_scale: the box of positive cells, as a part of the object's.
        size: (H, W) in pixels that the grids span.
    """
    B, device = len(targets), targets.boxes.device
    mass, center = mass_and_center(masks)
    sides = targets.boxes[..., 2:] - targets.boxes[..., :2]    # (B, G, 2)
    extent, side = sides.prod(-1).sqrt()[..., None], torch.tensor(grids, device=device)    # (B, G, 1), (L,)
    limit = torch.tensor(ranges, device=device, dtype=torch.float32)    # (L, 2)
    fits = (targets.valid & (mass > 0))[..., None] & (extent >= limit[:, 0]) & (extent <= limit[:, 1])    # (B, G, L)

    def cell_of(xy: Tensor) -> Tensor:
        """(B, G, 2) pixels -> (B, G, L, 1, 2) cells."""
        part = xy / torch.tensor([size[1], size[0]], device=device)
        return (part[:, :, None] * side[:, None]).floor().long()[..., None, :]

    own, half = cell_of(center), pos_scale * sides / 2
    low, high = cell_of(center - half).clamp(min=0), torch.minimum(cell_of(center + half), side[:, None, None] - 1)
    step = torch.arange(9, device=device)
    xy = own + torch.stack([step % 3 - 1, step // 3 - 1], -1)    # (B, G, L, 9, 2)
    trained = (fits[..., None] & (xy >= low).all(-1) & (xy <= high).all(-1)).flatten(1)
    start = side.square().cumsum(0) - side.square()
    cell = (start[:, None] + xy[..., 1] * side[:, None] + xy[..., 0]).flatten(1).masked_fill(~trained, 0)

    N, per_gt = sum(s * s for s in grids), 9 * len(grids)
    which = torch.arange(cell.shape[1], device=device).expand(B, -1) // per_gt
    gt = torch.full((B, N), -1, device=device)
    gt.scatter_reduce_(1, cell, torch.where(trained, which, -1), 'amax')    # the last object wins
    return GridTargets(gt, cell, trained, per_gt)
