"""Prime sample attention: the negatives that matter, and how much each of them should."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.models.parts.samplers.draw import draw, negative_count, negatives, only
from omnidet.ops.boxes import pairwise_iou
from omnidet.registry import SAMPLERS
from omnidet.structures import Assignment


@SAMPLERS.register
class ScoreHLRSampler:
    """Negatives by their hierarchical local rank (PISA, arXiv:1904.04821, sections 3 and 4).

    Negatives with a score are grouped as NMS would group them. The best of all groups come first, by their score, then
    the second of all groups, and so on. A negative's weight falls with its rank r of n: (bias + (1 - bias) (n - r) /
    n)^k, scaled so that the sum of their losses stays. Positives, and negatives without a score, are drawn by chance.

    Args:
        num: how many priors each image gives; all where there are fewer.
        pos_fraction: the largest part of them that is positive.
        context: accepted as configs carry it; the caller hands over what a head predicts.
        neg_pos_ub: the most negatives for each positive; any number where negative.
        add_gt_as_proposals: let the RoI head put the ground truth among the proposals.
        k, bias: of the weights.
        score_thr: the score that a ranked negative must exceed.
        iou_thr: the overlap that makes a group.
    """

    needs_losses = False
    needs_predictions = True

    def __init__(self, num: int, pos_fraction: float, context: object = None, neg_pos_ub: float = -1,
                 add_gt_as_proposals: bool = True, k: float = 0.5, bias: float = 0, score_thr: float = 0.05,
                 iou_thr: float = 0.5) -> None:
        self.num, self.pos_fraction, self.neg_pos_ub = num, pos_fraction, neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals
        self.k, self.bias, self.score_thr, self.iou_thr = k, bias, score_thr, iou_thr

    @torch.no_grad()
    def __call__(self, assignment: Assignment, loss: Tensor, scores: Tensor, boxes: Tensor
                 ) -> tuple[Assignment, Tensor]:
        """Sample.

        Args:
            assignment: N priors of B images.
            loss: (B, N), what each prior would cost.
            scores: (B, N) in 0..1, of the best class.
            boxes: (B, N, 4), of the best class.

        Returns:
            The assignment with what was not taken ignored, and (B, N) weights of the class loss: 1 where positive.
        """
        expected = int(self.num * self.pos_fraction)
        positive = draw(assignment.positive, expected, expected)
        candidates = negatives(assignment)
        count = torch.minimum(negative_count(positive, self.num, self.neg_pos_ub), candidates.sum(1))    # (B,)
        ranked = candidates & (scores > self.score_thr)
        rank = torch.stack([hierarchical_local_rank(b, s, r, self.iou_thr)
                            for b, s, r in zip(boxes, scores, ranked, strict=True)])    # (B, N)
        prime = ranked & (rank < count[:, None])
        negative = prime | draw(candidates & ~ranked, count - prime.sum(1), self.num)
        size = torch.maximum(count, ranked.sum(1)).clamp(min=1)[:, None]
        importance = (size - rank) / size
        least = importance.masked_fill(~prime, 1).amin(1, keepdim=True)    # what has no rank weighs as the last
        weight = (self.bias + (1 - self.bias) * torch.where(prime, importance, least)).pow(self.k) * negative
        loss = loss.nan_to_num(nan=0.0)
        weight = weight * (loss * negative).sum(1, keepdim=True) / (loss * weight).sum(1, keepdim=True).clamp(min=1e-12)
        return only(assignment, positive, negative), torch.where(positive, 1, weight)


def hierarchical_local_rank(boxes: Tensor, scores: Tensor, ranked: Tensor, iou_thr: float) -> Tensor:
    """The rank of an image's boxes: first by the rank within the group that NMS makes, then by score.

    Args:
        boxes: (N, 4).
        scores: (N,) in 0..1.
        ranked: (N,) bool, which boxes have a rank.
        iou_thr: a box joins the group of a better one that overlaps it by more.

    Returns:
        (N,) int64; N where `ranked` is False.
    """
    index = ranked.nonzero()[:, 0]
    index = index[scores[index].argsort(descending=True)]
    near = (pairwise_iou(boxes[index], boxes[index]) > iou_thr).cpu()
    free, local = torch.ones(len(index), dtype=torch.bool), torch.zeros(len(index), dtype=torch.long)
    for i in range(len(index)):
        if free[i]:
            group = (near[i] & free).index_fill_(0, torch.tensor(i), True).nonzero()[:, 0]
            local[group] = torch.arange(len(group))
            free[group] = False
    order = index[local.to(index.device).argsort(stable=True)]
    return torch.full_like(ranked, len(ranked), dtype=torch.long).scatter_(
        0, order, torch.arange(len(order), device=order.device))
