# ruff: noqa
"""Losses with MMDetection's calling convention: (M, K) predictions, (M,) labels, (M, 4) weights of boxes."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from mmdet.models import LOSSES, weighted_loss
from mmdet.models.losses import weight_reduce_loss

SEEN = {}


@weighted_loss
def squared(pred, target):
    assert pred.size() == target.size() and pred.dim() == 2
    return (pred - target) ** 2


@LOSSES.register_module()
class SquaredBoxLoss(nn.Module):

    def __init__(self, reduction='mean', loss_weight=1.0):
        super(SquaredBoxLoss, self).__init__()
        self.reduction = reduction
        self.loss_weight = loss_weight

    def forward(self, pred, target, weight=None, avg_factor=None, reduction_override=None):
        SEEN['box'] = (pred.shape, target.shape, weight.shape)
        reduction = reduction_override if reduction_override else self.reduction
        return self.loss_weight * squared(pred, target, weight, reduction=reduction, avg_factor=avg_factor)


@LOSSES.register_module()
class OneHotLoss(nn.Module):

    def __init__(self, use_sigmoid=True, reduction='mean', loss_weight=1.0):
        super().__init__()
        assert use_sigmoid
        self.use_sigmoid = use_sigmoid
        self.reduction = reduction
        self.loss_weight = loss_weight

    def forward(self, pred, target, weight=None, avg_factor=None, reduction_override=None, **kwargs):
        SEEN['cls'] = (pred.shape, target.shape, weight.shape)
        num_classes = pred.size(1)
        one_hot = F.one_hot(target, num_classes=num_classes + 1)[:, :num_classes].type_as(pred)
        loss = F.binary_cross_entropy_with_logits(pred, one_hot, reduction='none')
        weight = weight.view(-1, 1) if weight is not None else torch.ones_like(loss)
        return self.loss_weight * weight_reduce_loss(loss, weight, self.reduction, avg_factor)
