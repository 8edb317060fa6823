"""Samplers that look at the losses: the hard priors, and the ones that matter."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.models.parts.samplers.draw import draw, negative_count, negatives, only
from omnidet.registry import SAMPLERS
from omnidet.structures import Assignment


@SAMPLERS.register
class OHEMSampler:
    """The priors of the largest loss (online hard example mining, arXiv:1604.03540).

    Args:
        num: how many priors each image gives; all where there are fewer.
        pos_fraction: the largest part of them that is positive.
        context: accepted as configs carry it; the caller hands over the losses.
        neg_pos_ub: the most negatives for each positive; any number where negative.
        add_gt_as_proposals: let the RoI head put the ground truth among the proposals.
        loss_key: which loss the caller hands over.
    """

    needs_losses = True

    def __init__(self, num: int, pos_fraction: float, context: object = None, neg_pos_ub: float = -1,
                 add_gt_as_proposals: bool = True, loss_key: str = 'loss_cls') -> None:
        self.num, self.pos_fraction, self.neg_pos_ub = num, pos_fraction, neg_pos_ub
        self.add_gt_as_proposals, self.loss_key = add_gt_as_proposals, loss_key

    @torch.no_grad()
    def __call__(self, assignment: Assignment, loss: Tensor) -> Assignment:
        """The assignment, with what is not hard enough ignored.

        Args:
            assignment: N priors of B images.
            loss: (B, N), what each prior would cost.
        """
        loss = loss.nan_to_num(nan=0.0)    # a prior that is ignored may have no loss
        count = int(self.num * self.pos_fraction)
        positive = draw(assignment.positive, count, count, loss)
        negative = draw(negatives(assignment), negative_count(positive, self.num, self.neg_pos_ub), self.num, loss)
        return only(assignment, positive, negative)
