"""SSD's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import (
    DenseHead,
    GridTraining,
    Outputs,
    box_terms,
    class_weight,
    sampled_count,
)
from omnidet.models.dense_heads.grid.layers import flatten_levels
from omnidet.models.parts.losses.regression import smooth_l1
from omnidet.nn import ConvModule, DepthwiseSeparableConvModule
from omnidet.nn.initialize import initialize
from omnidet.registry import DENSE_HEADS
from omnidet.structures import Assignment, Priors

Cfg = Mapping[str, Any]

ANCHORS: Cfg = {'type': 'SSDAnchorGenerator', 'scale_major': False, 'input_size': 300,
                'strides': [8, 16, 32, 64, 100, 300], 'ratios': ([2], [2, 3], [2, 3], [2, 3], [2], [2]),
                'basesize_ratio_range': (0.15, 0.9)}
DELTAS: Cfg = {'type': 'DeltaXYWHBBoxCoder', 'clip_border': True, 'target_means': (0.0, 0.0, 0.0, 0.0),
               'target_stds': (1.0, 1.0, 1.0, 1.0)}
XAVIER: Cfg = {'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform', 'bias': 0}


@dataclass(frozen=True)
class SSDTraining(GridTraining):
    """An SSD head's `train_cfg`.

    Attributes:
        smoothl1_beta: where the box loss turns from quadratic to linear.
        neg_pos_ratio: negatives for each positive.
        The others: see `GridTraining`.
    """

    smoothl1_beta: float = 1.0
    neg_pos_ratio: float = 3


@DENSE_HEADS.register
class SSDHead(DenseHead):
    """SSD's head: one convolution for each level, a softmax over classes, hard negatives (arXiv:1512.02325, section 2).

    Parameters, each a list over levels: cls_convs, reg_convs.

    Args:
        num_classes: K.
        in_channels: channels of each level's map.
        stacked_convs: convolutions before the last one of each level.
        feat_channels: their channels.
        use_depthwise: make convolutions depthwise-separable (SSDLite).
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        anchor_generator, bbox_coder: the priors, and how boxes are regressed at them.
        reg_decoded_bbox: take the box loss on boxes, not on what is regressed.
        train_cfg, test_cfg: see `SSDTraining` and `GridPostprocess`.
        init_cfg: initial values; Xavier where None.
    """

    use_sigmoid_cls = False
    training_fields = SSDTraining
    training_cfg: SSDTraining

    def __init__(self, num_classes: int = 80, in_channels: Sequence[int] = (512, 1024, 512, 256, 256, 256),
                 stacked_convs: int = 0, feat_channels: int = 256, use_depthwise: bool = False,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = None,
                 anchor_generator: Cfg = ANCHORS, bbox_coder: Cfg = DELTAS, reg_decoded_bbox: bool = False,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes, self.reg_decoded_bbox = num_classes, reg_decoded_bbox
        cfgs = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule

        def level(channels: int, out_channels: int) -> nn.Sequential:
            widths = [channels, *[feat_channels] * stacked_convs]
            layers: list[nn.Module] = [conv(c, feat_channels, 3, padding=1, **cfgs) for c in widths[:-1]]
            last = widths[-1]
            if use_depthwise:
                layers.append(ConvModule(last, last, 3, padding=1, groups=last, **cfgs))
            size = 1 if use_depthwise else 3
            return nn.Sequential(*layers, nn.Conv2d(last, out_channels, size, padding=size // 2))

        def levels(size: int) -> nn.ModuleList:
            return nn.ModuleList(level(c, n * size) for c, n in
                                 zip(in_channels, self.prior_generator.num_base_priors, strict=True))

        self.cls_convs, self.reg_convs = levels(num_classes + 1), levels(self.coder.encode_size)
        initialize(self, init_cfg, XAVIER)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C_l, H_l, W_l) -> cls (B, N, K + 1) logits, background the last, reg (B, N, 4) deltas."""
        cls = [conv(feat) for feat, conv in zip(feats, self.cls_convs, strict=True)]
        reg = [conv(feat) for feat, conv in zip(feats, self.reg_convs, strict=True)]
        return {'cls': flatten_levels(cls, self.num_classes + 1),
                'reg': flatten_levels(reg, self.coder.encode_size)}

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy on the positives and on each image's hardest negatives; smooth L1 on the positives."""
        options, positive = self.training_cfg, assignment.positive
        total = sampled_count(assignment, with_negatives=False)
        labels = torch.where(positive, gt_labels, self.num_classes)
        cost = F.cross_entropy(out['cls'].transpose(1, 2), labels, reduction='none')    # (B, N)
        seen = positive | hardest(cost.detach(), ~(positive | assignment.ignored), positive, options.neg_pos_ratio)
        loss_cls = (cost * class_weight(assignment, options.pos_weight) * seen).sum() / total
        pred, target = box_terms(self, out, priors, positive, gt_boxes)
        loss_bbox = (smooth_l1((pred - target).abs(), options.smoothl1_beta) * positive[..., None]).sum() / total
        return {'loss_cls': loss_cls, 'loss_bbox': loss_bbox}


def hardest(cost: Tensor, negative: Tensor, positive: Tensor, ratio: float) -> Tensor:
    """(B, N) bool: of each image's negatives the costliest, `ratio` for each positive.

    Args:
        cost: (B, N).
        negative, positive: (B, N) bool.
        ratio: how many negatives there are for each positive.
    """
    order = cost.masked_fill(~negative, -torch.inf).argsort(1, descending=True)
    count = (positive.sum(1, keepdim=True) * ratio).long()
    rank = torch.arange(cost.shape[1], device=cost.device).expand_as(order)
    return torch.zeros_like(negative).scatter_(1, order, rank < count) & negative
