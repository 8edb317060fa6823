"""Drawing a number of candidates from each image: what samplers have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.structures import Assignment


def draw(candidates: Tensor, count: Tensor | int, most: int, key: Tensor | None = None) -> Tensor:
    """At most `count` of each image's candidates: those of the largest key, or by chance.

    Args:
        candidates: (B, N) bool.
        count: (B,) int64, or one number for all images.
        most: a bound of `count` that is known without looking at the device.
        key: (B, N) float, finite; random where None.

    Returns:
        (B, N) bool.
    """
    B, N = candidates.shape
    most = min(most, N)
    if most <= 0:
        return torch.zeros_like(candidates)
    if key is None:
        key = torch.rand(B, N, device=candidates.device)
    at = key.masked_fill(~candidates, -torch.inf).topk(most).indices    # (B, most)
    limit = torch.as_tensor(count, device=at.device).reshape(-1, 1).expand(B, 1)
    chosen = torch.arange(most, device=at.device) < limit
    return torch.zeros_like(candidates).scatter_(1, at, chosen) & candidates


def negatives(assignment: Assignment) -> Tensor:
    """(B, N) bool: the priors that are background."""
    return ~(assignment.positive | assignment.ignored)


def negative_count(positive: Tensor, num: int, neg_pos_ub: float) -> Tensor:
    """How many negatives fill each image's budget.

    Args:
        positive: (B, N) bool, the sampled positives.
        num: the budget.
        neg_pos_ub: the most negatives for each positive (at least one positive is counted); any where negative.

    Returns:
        (B,) int64.
    """
    taken = positive.sum(1)
    rest = num - taken
    return rest if neg_pos_ub < 0 else torch.minimum(rest, (taken.clamp(min=1) * neg_pos_ub).long())


def only(assignment: Assignment, positive: Tensor, negative: Tensor) -> Assignment:
    """The assignment with all priors ignored that are in neither mask."""
    return assignment._replace(positive=positive, ignored=~(positive | negative))


def random_rank(group: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Number the candidates of each group in random order.

    Args:
        group: (B, N) int64 from 0.
        candidates: (B, N) bool.

    Returns:
        The rank (B, N) int64 within the prior's group, from 0 (N for what is no candidate), and how many groups each
        image has, (B,) int64.
    """
    B, N = group.shape
    key = (group + torch.rand(B, N, device=group.device, dtype=torch.float64)).masked_fill(~candidates, torch.inf)
    key, order = key.sort(1)
    group, real = key.floor(), key.isfinite()
    first = torch.ones_like(real)
    first[:, 1:] = group[:, 1:] != group[:, :-1]
    first &= real
    position = torch.arange(N, device=key.device).expand(B, N)
    start = torch.where(first, position, 0).cummax(1).values
    rank = torch.where(real, position - start, N)
    return torch.empty_like(rank).scatter_(1, order, rank), first.sum(1)
