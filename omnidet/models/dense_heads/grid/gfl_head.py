"""The head of generalised focal loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs, class_weight, matched_boxes, sampled_count
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels, through
from omnidet.nn import Scale
from omnidet.nn.initialize import initialize
from omnidet.nn.integral import Integral
from omnidet.ops.boxes import aligned_iou
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, Priors

Cfg = Mapping[str, Any]

ANCHORS: Cfg = {'type': 'AnchorGenerator', 'scales': [8, 16, 32], 'ratios': [0.5, 1.0, 2.0],
                'strides': [4, 8, 16, 32, 64]}
DISTANCES: Cfg = {'type': 'DistancePointBBoxCoder'}
QFL: Cfg = {'type': 'QualityFocalLoss', 'use_sigmoid': True, 'beta': 2.0, 'loss_weight': 1.0}
DFL: Cfg = {'type': 'DistributionFocalLoss', 'loss_weight': 0.25}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 2.0}
GROUP_NORM: Cfg = {'type': 'GN', 'num_groups': 32, 'requires_grad': True}
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01,
               'override': {'type': 'Normal', 'name': 'gfl_cls', 'std': 0.01, 'bias_prob': 0.01}}


@DENSE_HEADS.register
class GFLHead(DenseHead):
    """Generalised focal loss: class scores that are IoUs, distances as distributions (arXiv:2006.04388).

    Parameters: cls_convs, reg_convs, gfl_cls, gfl_reg, scales. Buffers: integral.project.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        stacked_convs: convolutions in a tower.
        conv_cfg, norm_cfg: the kinds of the towers' layers.
        loss_dfl, loss_cls, loss_bbox: the losses.
        bbox_coder: how boxes are regressed at the anchors' centres.
        reg_max: the greatest distance, in strides; a distribution is over 0 to `reg_max`.
        init_cfg: initial values; normal of std 0.01, class scores that begin at 0.01, where None.
        feat_channels: channels of a tower.
        anchor_generator: the priors, one for each cell.
        reg_decoded_bbox: accepted as configs carry it; the box loss is on boxes.
        train_cfg, test_cfg: see `GridTraining` and `GridPostprocess`.
    """

    def __init__(self, num_classes: int, in_channels: int, stacked_convs: int = 4, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = GROUP_NORM, loss_dfl: Cfg = DFL, bbox_coder: Cfg = DISTANCES,
                 reg_max: int = 16, init_cfg: Cfg | Sequence[Cfg] | None = None, feat_channels: int = 256,
                 anchor_generator: Cfg = ANCHORS, reg_decoded_bbox: bool = False, loss_cls: Cfg = QFL,
                 loss_bbox: Cfg = GIOU, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes, self.reg_max = num_classes, reg_max
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.loss_dfl = LOSSES.build(loss_dfl)

        def tower() -> nn.ModuleList:
            return conv_tower(in_channels, feat_channels, stacked_convs, conv_cfg=conv_cfg, norm_cfg=norm_cfg)

        self.cls_convs, self.reg_convs = tower(), tower()
        self.gfl_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.gfl_reg = nn.Conv2d(feat_channels, 4 * (reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)
        self.integral = Integral(reg_max)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits, reg (B, N, 4 (reg_max + 1)) logits of distances."""
        cls = [self.gfl_cls(through(self.cls_convs, feat)) for feat in feats]
        reg = [scale(self.gfl_reg(through(self.reg_convs, feat))).float()
               for feat, scale in zip(feats, self.scales, strict=True)]
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4 * (self.reg_max + 1))}

    def decode(self, priors: Priors, reg: Tensor, max_shape: Tensor | None = None) -> Tensor:
        boxes: Tensor = self.coder.decode(priors, self.integral(reg) * priors.strides[..., None], max_shape)
        return boxes

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class loss against the boxes' IoUs; box and distribution loss weighted by the best class score."""
        positive = assignment.positive
        pred, target = matched_boxes(self.decode(priors, out['reg']), gt_boxes, positive)
        iou = aligned_iou(pred.detach(), target) * positive
        score = out['cls'].detach().amax(-1).sigmoid() * positive    # (B, N)
        total = reduce_mean(score.sum()).clamp(min=1)
        sides = (self.coder.encode(priors, target) / priors.strides[:, None]).clamp(0, self.reg_max - 0.1)
        labels = torch.where(positive, gt_labels, self.num_classes)
        return {'loss_cls': self.loss_cls(out['cls'], (labels, iou),
                                          class_weight(assignment, self.training_cfg.pos_weight),
                                          avg_factor=sampled_count(assignment, with_negatives=False)),
                'loss_bbox': self.loss_bbox(pred, target, score, avg_factor=total),
                'loss_dfl': self.loss_dfl(out['reg'].unflatten(-1, (4, self.reg_max + 1)), sides,
                                          score[..., None].expand(-1, -1, 4), avg_factor=4 * total)}
