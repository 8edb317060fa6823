"""What RTMDet's heads have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import Outputs, class_weight, matched_boxes
from omnidet.nn import ConvModule, bias_for_probability, normal_
from omnidet.ops.distributed import reduce_mean
from omnidet.structures import Assignment, Priors


def with_objectness(cls: Tensor, objectness: Tensor) -> Tensor:
    """Logits of the geometric mean of two probabilities, from their logits."""
    p = (cls.sigmoid() * objectness.sigmoid()).sqrt().clamp(1e-5, 1 - 1e-5)
    return p.logit()


def rtmdet_losses(head: Any, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
                  gt_labels: Tensor) -> dict[str, Tensor]:
    """Quality focal loss on all priors, IoU loss on the positive ones, both over the sum of the qualities."""
    weight = class_weight(assignment, head.training_cfg.pos_weight)
    labels = torch.where(assignment.positive, gt_labels, head.num_classes)
    total = reduce_mean(assignment.score.sum()).clamp(min=1)
    boxes, gt_boxes = matched_boxes(head.decode(priors, out['reg']), gt_boxes, assignment.positive)
    return {'loss_cls': head.loss_cls(out['cls'], (labels, assignment.score), weight, avg_factor=total),
            'loss_bbox': head.loss_bbox(boxes, gt_boxes, assignment.score, avg_factor=total)}


def share_convs(module: nn.Module, first: nn.Module) -> None:
    """Let every convolution of `module` be the one of `first`."""
    if isinstance(module, ConvModule):
        module.conv = first.conv
    else:
        for mine, theirs in zip(module.children(), first.children(), strict=True):
            share_convs(mine, theirs)


def init_rtmdet(head: Any) -> None:
    """Small weights everywhere; class scores that begin near 0.01."""
    for m in head.modules():
        if isinstance(m, nn.Conv2d):
            normal_(m, 0.01)
    prior = bias_for_probability(0.01)
    for name in ('rtm_cls', 'rtm_obj'):
        for m in getattr(head, name, nn.Module()).modules():
            if isinstance(m, nn.Conv2d):
                normal_(m, 0.01, bias=prior)
