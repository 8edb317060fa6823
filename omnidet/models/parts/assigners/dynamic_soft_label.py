"""Dynamic label assignment with soft labels, as RTMDet has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from omnidet.models.parts.assigners.batches import PAIRS, by_images
from omnidet.models.parts.assigners.takers import cheapest_takers
from omnidet.ops.boxes import box_center
from omnidet.ops.masks import mass_and_center
from omnidet.registry import ASSIGNERS, IOU_CALCULATORS
from omnidet.structures import Assignment, Predictions, Priors, Targets


@ASSIGNERS.register
class DynamicSoftLabelAssigner:
    """Each object takes the few priors whose prediction costs it least (RTMDet, arXiv:2212.07784, section 3.2).

    The cost of a prior for an object adds the cross entropy of its class scores against the IoU as a soft label,
    weighted by the squared gap; the negative logarithm of the IoU; and a soft prior that grows tenfold with each stride
    of distance from the centre of the object (of its mask, where there are masks). Only priors that lie inside some
    object compete. An object takes as many as its best IoUs add up to, at least one; a prior that several take goes to
    the one it costs least.

    Args:
        soft_center_radius: the distance, in strides, at which the soft prior costs 1.
        topk: how many of the best IoUs are added up.
        iou_weight: weight of the IoU's cost.
        iou_calculator: how overlap is measured.
        budget: the most prior-object pairs to hold at a time; larger batches are taken a few images at a time.
    """

    needs_predictions = True

    def __init__(self, soft_center_radius: float = 3.0, topk: int = 13, iou_weight: float = 3.0,
                 iou_calculator: Mapping[str, Any] = {'type': 'BboxOverlaps2D'},
                 budget: int = PAIRS) -> None:
        self.soft_center_radius, self.topk, self.iou_weight, self.budget = soft_center_radius, topk, iou_weight, budget
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
            The assignment; its score is the IoU of the predicted box with its object.
        """
        return by_images(self._assign, priors, targets, inside, preds, self.budget)

    def _assign(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions | None) -> Assignment:
        assert preds is not None
        centers, boxes, valid = box_center(priors.boxes), targets.boxes, targets.valid
        lt, rb = boxes[:, None, :, :2], boxes[:, None, :, 2:]    # (B, 1, G, 2)
        point = centers[:, None]    # (N, 1, 2)
        in_object = (torch.minimum(point - lt, rb - point).amin(-1) > 0) & valid[:, None]    # (B, N, G)
        candidate = (in_object.any(-1) & inside)[..., None] & valid[:, None]    # (B, N, G)

        iou = self.iou(preds.boxes.float(), boxes) * candidate    # (B, N, G)
        middle = box_center(boxes) if targets.masks is None else mass_and_center(targets.masks)[1]    # (B, G, 2)
        distance = (centers[:, None] - middle[:, None]).square().sum(-1).sqrt() / priors.strides[:, None]
        cost = (self._class_cost(preds.logits.float(), targets.labels, iou) - self.iou_weight * (iou + 1e-7).log()
                + 10 ** (distance - self.soft_center_radius))
        return cheapest_takers(cost.masked_fill(~candidate, torch.inf), iou, self.topk, inside)

    @staticmethod
    def _class_cost(logits: Tensor, labels: Tensor, soft_label: Tensor) -> Tensor:
        """Cross entropy of every class against a one-hot label scaled by the IoU, weighted by the squared gap, summed.

        Only the label's own class differs between the objects, so that (B, N, G, K) is never formed.
        """
        p = logits.sigmoid()
        as_negative = F.softplus(logits) * p.square()    # (B, N, K)
        index = labels[:, None].expand(-1, logits.shape[1], -1)    # (B, N, G)
        own = logits.gather(-1, index)
        gap = soft_label - own.sigmoid()
        as_label = F.binary_cross_entropy_with_logits(own, soft_label, reduction='none') * gap.square()
        return as_negative.sum(-1, keepdim=True) - as_negative.gather(-1, index) + as_label
