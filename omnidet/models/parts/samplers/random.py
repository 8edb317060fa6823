"""Samplers that draw by chance, each with its own care for what is rare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omnidet.models.parts.samplers.draw import draw, negative_count, negatives, only, random_rank
from omnidet.registry import SAMPLERS
from omnidet.structures import Assignment


@SAMPLERS.register
class RandomSampler:
    """A fixed number of priors by chance: positives up to a fraction of it, negatives for the rest.

    Args:
        num: how many priors each image gives; all where there are fewer.
        pos_fraction: the largest part of them that is positive.
        neg_pos_ub: the most negatives for each positive; any number where negative.
        add_gt_as_proposals: let the RoI head put the ground truth among the proposals.
        context: accepted as configs carry it.
    """

    needs_losses = False

    def __init__(self, num: int, pos_fraction: float, neg_pos_ub: float = -1, add_gt_as_proposals: bool = True,
                 context: object = None) -> None:
        self.num, self.pos_fraction, self.neg_pos_ub = num, pos_fraction, neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals

    @torch.no_grad()
    def __call__(self, assignment: Assignment) -> Assignment:
        """The assignment, with what was not drawn ignored."""
        positive = self.draw_positives(assignment, int(self.num * self.pos_fraction))
        negative = self.draw_negatives(assignment, negative_count(positive, self.num, self.neg_pos_ub), self.num)
        return only(assignment, positive, negative)

    def draw_positives(self, assignment: Assignment, count: int) -> Tensor:
        """(B, N) bool: at most `count` positives of each image."""
        return draw(assignment.positive, count, count)

    def draw_negatives(self, assignment: Assignment, count: Tensor, most: int) -> Tensor:
        """(B, N) bool: at most `count` (B,) negatives of each image; `most` bounds them all."""
        return draw(negatives(assignment), count, most)


@SAMPLERS.register
class InstanceBalancedPosSampler(RandomSampler):
    """As `RandomSampler`, but every object gives about as many positives (Libra R-CNN's code, arXiv:1904.02701).

    Each of n objects gives round(count / n) + 1 of its positives at the most; what is missing then is drawn from the
    others, what is too much is dropped, both by chance. Arguments as `RandomSampler`.
    """

    def draw_positives(self, assignment: Assignment, count: int) -> Tensor:
        rank, objects = random_rank(assignment.gt, assignment.positive)
        quota = (count / objects.clamp(min=1)).round() + 1    # (B,)
        first = rank < quota[:, None]
        return draw(assignment.positive, count, count, torch.rand_like(first, dtype=torch.float32) + first)


@SAMPLERS.register
class IoUBalancedNegSampler(RandomSampler):
    """As `RandomSampler`, but negatives come evenly from all degrees of overlap (Libra R-CNN, arXiv:1904.02701).

    The range of overlaps above `floor_thr` is cut into `num_bins`, each of which gives as many negatives where it has
    them. Below it, negatives are drawn by chance.

    Args:
        floor_thr: the overlap from which negatives are balanced; negative balances them all.
        floor_fraction: the part of the negatives that comes from below.
        num_bins: how many bins there are; by chance alone where fewer than 2.
        The others: see `RandomSampler`.
    """

    def __init__(self, num: int, pos_fraction: float, floor_thr: float = -1, floor_fraction: float = 0,
                 num_bins: int = 3, neg_pos_ub: float = -1, add_gt_as_proposals: bool = True,
                 context: object = None) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        self.floor_thr, self.floor_fraction, self.num_bins = floor_thr, floor_fraction, num_bins

    def draw_negatives(self, assignment: Assignment, count: Tensor, most: int) -> Tensor:
        candidates, overlap = negatives(assignment), assignment.score
        if self.floor_thr > 0:
            balanced = candidates & (overlap >= self.floor_thr)
        else:
            balanced = candidates & (overlap > self.floor_thr)
        above = (count * (1 - self.floor_fraction)).long()    # (B,)
        first = self._evenly(balanced, overlap, above)
        taken = draw(balanced, above, most, torch.rand_like(overlap) + first)
        # What the balanced ones leave of the budget goes to those below first, then to whoever is left.
        rest = candidates & ~taken
        below = rest & ~balanced
        return taken | draw(rest, count - taken.sum(1), most, torch.rand_like(overlap) + below)

    def _evenly(self, balanced: Tensor, overlap: Tensor, count: Tensor) -> Tensor:
        """(B, N) bool: an equal share of `count` (B,) from every bin."""
        if self.num_bins < 2 or overlap.shape[1] == 0:
            return torch.zeros_like(balanced)
        floor = max(self.floor_thr, 0)
        width = (overlap.masked_fill(~balanced, floor).amax(1, keepdim=True) - floor) / self.num_bins
        bins = ((overlap - floor) / width.clamp(min=1e-9)).long().clamp(0, self.num_bins - 1)
        rank, _ = random_rank(bins, balanced)
        return rank < torch.div(count, self.num_bins, rounding_mode='floor')[:, None]


@SAMPLERS.register
class CombinedSampler:
    """Positives as one sampler draws them, negatives as another.

    Args:
        pos_sampler, neg_sampler: the two; they take the other arguments where they have none of their own.
        num, pos_fraction, neg_pos_ub, add_gt_as_proposals: see `RandomSampler`.
        context: accepted as configs carry it.
    """

    needs_losses = False

    def __init__(self, pos_sampler: Mapping[str, Any], neg_sampler: Mapping[str, Any], num: int, pos_fraction: float,
                 neg_pos_ub: float = -1, add_gt_as_proposals: bool = True, context: object = None) -> None:
        self.num, self.pos_fraction, self.neg_pos_ub = num, pos_fraction, neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals
        shared = {'num': num, 'pos_fraction': pos_fraction, 'neg_pos_ub': neg_pos_ub}
        self.pos_sampler = SAMPLERS.build(pos_sampler, **shared)
        self.neg_sampler = SAMPLERS.build(neg_sampler, **shared)

    @torch.no_grad()
    def __call__(self, assignment: Assignment) -> Assignment:
        """The assignment, with what was not drawn ignored."""
        positive = self.pos_sampler.draw_positives(assignment, int(self.num * self.pos_fraction))
        count = negative_count(positive, self.num, self.neg_pos_ub)
        return only(assignment, positive, self.neg_sampler.draw_negatives(assignment, count, self.num))
