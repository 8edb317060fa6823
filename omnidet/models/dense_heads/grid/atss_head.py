"""ATSS's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs, class_weight, matched_boxes, sampled_count
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels, through
from omnidet.models.parts.centerness import centerness
from omnidet.nn import Scale
from omnidet.nn.initialize import initialize
from omnidet.ops.boxes import box_center
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, Priors

Cfg = Mapping[str, Any]

ANCHORS: Cfg = {'type': 'AnchorGenerator', 'scales': [8, 16, 32], 'ratios': [0.5, 1.0, 2.0],
                'strides': [4, 8, 16, 32, 64]}
DELTAS: Cfg = {'type': 'DeltaXYWHBBoxCoder', 'clip_border': True, 'target_means': (0.0, 0.0, 0.0, 0.0),
               'target_stds': (1.0, 1.0, 1.0, 1.0)}
FOCAL: Cfg = {'type': 'FocalLoss', 'use_sigmoid': True, 'gamma': 2.0, 'alpha': 0.25, 'loss_weight': 1.0}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 2.0}
CROSS_ENTROPY: Cfg = {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'loss_weight': 1.0}
GROUP_NORM: Cfg = {'type': 'GN', 'num_groups': 32, 'requires_grad': True}
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01,
               'override': {'type': 'Normal', 'name': 'atss_cls', 'std': 0.01, 'bias_prob': 0.01}}


@DENSE_HEADS.register
class ATSSHead(DenseHead):
    """ATSS's head: RetinaNet's towers, one anchor for each cell, and FCOS's centerness (arXiv:1912.02424).

    Parameters: cls_convs, reg_convs, atss_cls, atss_reg, atss_centerness, scales.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        pred_kernel_size: window of the last convolutions.
        stacked_convs: convolutions in a tower.
        conv_cfg, norm_cfg: the kinds of the towers' layers.
        reg_decoded_bbox: accepted as configs carry it; the box loss is on boxes.
        loss_centerness, loss_cls, loss_bbox: the losses.
        init_cfg: initial values; normal of std 0.01, class scores that begin at 0.01, where None.
        feat_channels: channels of a tower.
        anchor_generator, bbox_coder: the priors, and how boxes are regressed at them.
        train_cfg, test_cfg: see `GridTraining` and `GridPostprocess`.
    """

    def __init__(self, num_classes: int, in_channels: int, pred_kernel_size: int = 3, stacked_convs: int = 4,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = GROUP_NORM, reg_decoded_bbox: bool = True,
                 loss_centerness: Cfg = CROSS_ENTROPY, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 feat_channels: int = 256, anchor_generator: Cfg = ANCHORS, bbox_coder: Cfg = DELTAS,
                 loss_cls: Cfg = FOCAL, loss_bbox: Cfg = GIOU, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes = num_classes
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.loss_centerness = LOSSES.build(loss_centerness)
        width, anchors = feat_channels if stacked_convs else in_channels, self.prior_generator.num_base_priors[0]

        def tower() -> nn.ModuleList:
            return conv_tower(in_channels, feat_channels, stacked_convs, conv_cfg=conv_cfg, norm_cfg=norm_cfg)

        def last(channels: int) -> nn.Conv2d:
            return nn.Conv2d(width, anchors * channels, pred_kernel_size, padding=pred_kernel_size // 2)

        self.cls_convs, self.reg_convs = tower(), tower()
        self.atss_cls, self.atss_reg, self.atss_centerness = last(num_classes), last(4), last(1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits, reg (B, N, 4) deltas, quality (B, N, 1) logits."""
        cls, reg, quality = [], [], []
        for feat, scale in zip(feats, self.scales, strict=True):
            c, r = through(self.cls_convs, feat), through(self.reg_convs, feat)
            cls.append(self.atss_cls(c))
            reg.append(scale(self.atss_reg(r)).float())
            quality.append(self.atss_centerness(r))
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4),
                'quality': flatten_levels(quality, 1)}

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class and centerness loss over the positives, box loss weighted by the centerness they should have."""
        positive = assignment.positive
        count = sampled_count(assignment, with_negatives=False)
        labels = torch.where(positive, gt_labels, self.num_classes)
        quality = centerness(box_center(priors.boxes), gt_boxes, positive)    # (B, N)
        pred, target = matched_boxes(self.decode(priors, out['reg']), gt_boxes, positive)
        return {'loss_cls': self.loss_cls(out['cls'], labels, class_weight(assignment, self.training_cfg.pos_weight),
                                          avg_factor=count),
                'loss_bbox': self.loss_bbox(pred, target, quality, avg_factor=reduce_mean(quality.sum()).clamp(min=1)),
                'loss_centerness': self.loss_centerness(out['quality'][..., 0], quality, positive.float(),
                                                        avg_factor=count)}
