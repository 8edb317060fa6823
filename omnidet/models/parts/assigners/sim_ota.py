"""SimOTA, YOLOX's assignment by cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omnidet.models.parts.assigners.batches import by_images
from omnidet.models.parts.assigners.takers import cheapest_takers
from omnidet.ops.boxes import box_center
from omnidet.registry import ASSIGNERS, IOU_CALCULATORS
from omnidet.structures import Assignment, Predictions, Priors, Targets

OUTSIDE = 1e5    # what a prior costs that does not lie both in the object and near its centre


@ASSIGNERS.register
class SimOTAAssigner:
    """Each object takes the few priors whose prediction costs it least (YOLOX, arXiv:2107.08430, section 2.1).

    A prior's cost for an object is the binary cross entropy of its class probabilities against the object's class, and
    the negative logarithm of the IoU. Priors compete that lie in some object or near some object's centre; for an
    object, those that do not both lie in it and near its centre come last. A prior in the padding may compete.

    Args:
        center_radius: how near the centre, in strides, along each axis.
        candidate_topk: how many of the best IoUs are added up to how many priors an object takes.
        iou_weight, cls_weight: weights of the two costs.
        iou_calculator: how overlap is measured.
    """

    needs_predictions = True

    def __init__(self, center_radius: float = 2.5, candidate_topk: int = 10, iou_weight: float = 3.0,
                 cls_weight: float = 1.0, iou_calculator: Mapping[str, Any] = {'type': 'BboxOverlaps2D'}) -> None:
        self.center_radius, self.candidate_topk = center_radius, candidate_topk
        self.iou_weight, self.cls_weight = iou_weight, cls_weight
        self.iou = IOU_CALCULATORS.build(iou_calculator)

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions) -> Assignment:
        """Assign.

        Args:
            priors: N priors.
            targets: B images with up to G objects; ignored ones take no part.
            inside: not looked at.
            preds: what the head predicts.

        Returns:
            The assignment; its score is the IoU of the predicted box with its object.
        """
        return by_images(self._assign, priors, targets, torch.ones_like(inside), preds)

    def _assign(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions | None) -> Assignment:
        assert preds is not None
        boxes, valid = targets.boxes[:, None], targets.valid[:, None]    # (B, 1, G, 4), (B, 1, G)
        point = box_center(priors.boxes)[:, None]    # (N, 1, 2)
        in_object = (torch.minimum(point - boxes[..., :2], boxes[..., 2:] - point).amin(-1) > 0) & valid
        away = (point - box_center(boxes)).abs().amax(-1)    # (B, N, G)
        is_near = (away < (priors.strides * self.center_radius)[:, None]) & valid
        candidate = (in_object | is_near).any(-1, keepdim=True) & valid    # (B, N, G)
        iou = self.iou(preds.boxes.float(), targets.boxes) * candidate
        scores = preds.logits.sigmoid() if preds.scores is None else preds.scores
        cost = (self.cls_weight * class_cost(scores.float(), targets.labels) - self.iou_weight * (iou + 1e-7).log()
                + OUTSIDE * ~(in_object & is_near))
        return cheapest_takers(cost.masked_fill(~candidate, torch.inf), iou, self.candidate_topk, inside)


def class_cost(scores: Tensor, labels: Tensor) -> Tensor:
    """(B, N, G): binary cross entropy of all classes' probabilities (B, N, K) against one of the labels (B, G).

    Only the label's own class differs between the objects, so that (B, N, G, K) is never formed.
    """
    as_negative = -torch.log1p(-scores).clamp(min=-100)    # (B, N, K); bounded as torch bounds it
    as_positive = -scores.log().clamp(min=-100)
    index = labels[:, None].expand(-1, scores.shape[1], -1)
    return as_negative.sum(-1, keepdim=True) - as_negative.gather(-1, index) + as_positive.gather(-1, index)
