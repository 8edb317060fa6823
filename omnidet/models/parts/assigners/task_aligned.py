"""Assignment by how well a prediction does both tasks at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omnidet.models.parts.assigners.batches import by_images
from omnidet.models.parts.assigners.takers import best_takers
from omnidet.ops.boxes import box_center
from omnidet.registry import ASSIGNERS, IOU_CALCULATORS
from omnidet.structures import Assignment, Predictions, Priors, Targets


@ASSIGNERS.register
class TaskAlignedAssigner:
    """An object takes the priors that score and localise it best (TOOD, arXiv:2108.07755, section 3.2).

    A prior's alignment with an object is t = s^alpha * u^beta (equation 6), of the class score s and the IoU u of the
    predicted box. The `topk` best whose centre lies in the object are positive; one that several objects take goes to
    the one that it overlaps most.

    Args:
        topk: how many priors an object takes.
        iou_calculator: how overlap is measured.
        alpha, beta: the exponents.
    """

    needs_predictions = True

    def __init__(self, topk: int, iou_calculator: Mapping[str, Any] = {'type': 'BboxOverlaps2D'}, alpha: float = 1,
                 beta: float = 6) -> None:
        self.topk, self.alpha, self.beta = topk, alpha, beta
        self.iou = IOU_CALCULATORS.build(iou_calculator)

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions) -> Assignment:
        """Assign.

        Args:
            priors: N priors.
            targets: B images with up to G objects; ignored ones take no part.
            inside: (B, N) bool, the priors to train on; the others come out as ignored.
            preds: what the head predicts.

        Returns:
            The assignment; its score is the alignment, scaled so that each object's best is its best IoU.
        """
        return by_images(self._assign, priors, targets, inside, preds)

    def _assign(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions | None) -> Assignment:
        assert preds is not None
        iou = self.iou(targets.boxes, preds.boxes.float())    # (B, G, N)
        scores = preds.logits.sigmoid() if preds.scores is None else preds.scores
        own = scores.float().gather(-1, targets.labels[:, None].expand(-1, scores.shape[1], -1)).transpose(1, 2)
        alignment = own ** self.alpha * iou ** self.beta * (inside[:, None] & targets.valid[..., None])
        best, index = alignment.topk(min(self.topk, alignment.shape[-1]))    # (B, G, C)
        boxes, points = targets.boxes[:, :, None], box_center(priors.boxes)[index]    # (B, G, 1, 4), (B, G, C, 2)
        in_object = torch.minimum(points - boxes[..., :2], boxes[..., 2:] - points).amin(-1) > 0.01
        out = best_takers(index, (best > 0) & in_object, iou.gather(-1, index), inside)
        of_prior = alignment.gather(1, out.gt[:, None])[:, 0] * out.positive    # (B, N)
        none = of_prior.new_zeros(targets.labels.shape)    # (B, G)
        most_aligned = none.scatter_reduce(1, out.gt, of_prior, 'amax').gather(1, out.gt)    # of the same object
        best_iou = none.scatter_reduce(1, out.gt, out.score, 'amax').gather(1, out.gt)
        return out._replace(score=of_prior / (most_aligned + 1e-7) * best_iou)
