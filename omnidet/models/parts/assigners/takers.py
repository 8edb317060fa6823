"""How candidates are shared out where several objects want the same prior."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.structures import Assignment


def best_takers(index: Tensor, taken: Tensor, overlap: Tensor, inside: Tensor) -> Assignment:
    """Give each prior to the object that overlaps it most among those that take it; the first of equal ones.

    Args:
        index: (B, G, C), each object's candidates among the N priors, none twice.
        taken: (B, G, C) bool, which of them the object takes.
        overlap: (B, G, C) of the object with the candidate.
        inside: (B, N) bool, the priors to train on; the others come out as ignored.

    Returns:
        The assignment; its score is that overlap.
    """
    G, C = index.shape[1:]
    flat = index.flatten(1)    # (B, G * C)
    claim = overlap.masked_fill(~taken, -1).flatten(1)
    best = claim.new_full(inside.shape, -1).scatter_reduce(1, flat, claim, 'amax')
    wins = taken.flatten(1) & (claim == best.gather(1, flat))
    owner = torch.arange(G, device=index.device)[:, None].expand(G, C).flatten()
    gt = torch.full(inside.shape, G, device=index.device).scatter_reduce(1, flat, torch.where(wins, owner, G), 'amin')
    positive = gt < G
    return Assignment(gt.clamp(max=G - 1), positive, ~inside, best * positive)


def cheapest_takers(cost: Tensor, iou: Tensor, topk: int, inside: Tensor) -> Assignment:
    """Let each object take as many of its cheapest priors as its best IoUs add up to, at least one (YOLOX, SimOTA).

    A prior that several objects take goes to the one it costs least.

    Args:
        cost: (B, N, G), infinite where an object must not take a prior.
        iou: (B, N, G), 0 where it must not.
        topk: how many of the best IoUs are added up.
        inside: (B, N) bool, the priors to train on; the others come out as ignored.

    Returns:
        The assignment; its score is the IoU.
    """
    k = min(topk, iou.shape[1])
    take = iou.topk(k, dim=1).values.sum(1).int().clamp(min=1)    # (B, G)
    cheapest, where = cost.topk(k, dim=1, largest=False)    # (B, k, G)
    chosen = (torch.arange(k, device=cost.device)[:, None] < take[:, None]) & cheapest.isfinite()
    taken = torch.zeros_like(cost, dtype=torch.bool).scatter_(1, where, chosen)    # (B, N, G)
    gt = torch.where(taken.sum(-1) > 1, cost.argmin(-1), taken.int().argmax(-1))    # (B, N)
    positive = taken.any(-1)
    return Assignment(gt, positive, ~inside, iou.gather(-1, gt[..., None])[..., 0] * positive)
