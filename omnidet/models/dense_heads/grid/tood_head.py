"""The head of task-aligned one-stage detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.dense_heads.grid.driver import DenseHead, GridTraining, Outputs, class_weight, matched_boxes
from omnidet.models.dense_heads.grid.layers import flatten_levels
from omnidet.models.parts.centerness import centerness
from omnidet.nn import ConvModule, Scale, bias_for_probability, normal_
from omnidet.nn.initialize import initialize
from omnidet.nn.task_alignment import TaskDecomposition, geometric_mean, moved_boxes
from omnidet.ops.boxes import box_center, distance_to_box
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import ASSIGNERS, DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, Predictions, Priors

Cfg = Mapping[str, Any]

ANCHORS: Cfg = {'type': 'AnchorGenerator', 'scales': [8, 16, 32], 'ratios': [0.5, 1.0, 2.0],
                'strides': [4, 8, 16, 32, 64]}
DELTAS: Cfg = {'type': 'DeltaXYWHBBoxCoder', 'clip_border': True, 'target_means': (0.0, 0.0, 0.0, 0.0),
               'target_stds': (1.0, 1.0, 1.0, 1.0)}
FOCAL: Cfg = {'type': 'FocalLoss', 'use_sigmoid': True, 'activated': True, 'gamma': 2.0, 'alpha': 0.25,
              'loss_weight': 1.0}
QFL: Cfg = {'type': 'QualityFocalLoss', 'use_sigmoid': True, 'activated': True, 'beta': 2.0, 'loss_weight': 1.0}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 2.0}
GROUP_NORM: Cfg = {'type': 'GN', 'num_groups': 32, 'requires_grad': True}


@dataclass(frozen=True)
class TOODTraining(GridTraining):
    """A TOOD head's `train_cfg`.

    Attributes:
        initial_epoch: for so many epochs `initial_assigner` and `initial_loss_cls` are in place.
        initial_assigner: which object each prior answers for in them.
        alpha, beta: the exponents of the alignment, which `assigner` takes where it has none of its own.
        The others: see `GridTraining`.
    """

    initial_epoch: int = 0
    initial_assigner: Cfg | None = None
    alpha: float = 1
    beta: float = 6


@DENSE_HEADS.register
class TOODHead(DenseHead):
    """TOOD's head: one tower for both tasks, aligned by what it learns to see of both (arXiv:2108.07755).

    Parameters: inter_convs, cls_decomp, reg_decomp, tood_cls, tood_reg, cls_prob_module, reg_offset_module, scales.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        num_dcn: how many of the tower's first convolutions are deformable.
        anchor_type: 'anchor_free' regresses distances in strides, 'anchor_based' what `bbox_coder` decodes.
        initial_loss_cls: the class loss of the first epochs; like `loss_cls`, of probabilities.
        pred_kernel_size: accepted as configs carry it; the last convolutions are 3 x 3.
        stacked_convs: convolutions in the tower.
        conv_cfg, norm_cfg: the kinds of the tower's layers.
        reg_decoded_bbox, loss_centerness: accepted as configs carry them; the box loss is on boxes.
        init_cfg: initial values; where None small ones, and class scores that begin at 0.01.
        feat_channels: channels of the tower.
        anchor_generator, bbox_coder: the priors, one for each cell, and how boxes are regressed at them.
        loss_cls, loss_bbox: the losses.
        train_cfg, test_cfg: see `TOODTraining` and `GridPostprocess`.
    """

    training_fields = TOODTraining
    training_cfg: TOODTraining

    def __init__(self, num_classes: int, in_channels: int, num_dcn: int = 0, anchor_type: str = 'anchor_free',
                 initial_loss_cls: Cfg = FOCAL, pred_kernel_size: int = 3, stacked_convs: int = 4,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = GROUP_NORM, reg_decoded_bbox: bool = True,
                 loss_centerness: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 feat_channels: int = 256, anchor_generator: Cfg = ANCHORS, bbox_coder: Cfg = DELTAS,
                 loss_cls: Cfg = QFL, loss_bbox: Cfg = GIOU, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        if anchor_type not in ('anchor_free', 'anchor_based'):
            raise ConfigError(f"TOODHead: anchor_type is {anchor_type!r}; allowed are 'anchor_free', 'anchor_based'")
        self.num_classes, self.anchor_free = num_classes, anchor_type == 'anchor_free'
        self.initial_loss_cls, self.loss_cls = LOSSES.build(initial_loss_cls), LOSSES.build(loss_cls)
        self.loss_bbox = LOSSES.build(loss_bbox)
        self.initial = False
        if train_cfg is not None:
            options = self.training_cfg
            self.initial_assigner = ASSIGNERS.build(options.initial_assigner or options.assigner)
            self.alignment_assigner = ASSIGNERS.build(options.assigner, alpha=options.alpha, beta=options.beta)
            self.set_progress(0, 0)

        def inter(i: int) -> nn.Module:
            deformable: Cfg = {'type': 'DCNv2', 'deform_groups': 4}
            return ConvModule(in_channels if i == 0 else feat_channels, feat_channels, 3, padding=1,
                              conv_cfg=deformable if i < num_dcn else conv_cfg, norm_cfg=norm_cfg)

        def side_branch(channels: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(feat_channels * stacked_convs, feat_channels // 4, 1),
                                 nn.ReLU(inplace=True), nn.Conv2d(feat_channels // 4, channels, 3, padding=1))

        self.inter_convs = nn.ModuleList(inter(i) for i in range(stacked_convs))
        self.cls_decomp = TaskDecomposition(feat_channels, stacked_convs, conv_cfg, norm_cfg)
        self.reg_decomp = TaskDecomposition(feat_channels, stacked_convs, conv_cfg, norm_cfg)
        self.tood_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.tood_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        self.cls_prob_module, self.reg_offset_module = side_branch(1), side_branch(4 * 2)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)
        if init_cfg is not None:
            initialize(self, init_cfg)
        else:
            _init(self)

    def set_progress(self, epoch: int, iteration: int) -> None:
        """Take the first epochs' assigner and class loss in them, and the aligned ones after."""
        self.initial = epoch < self.training_cfg.initial_epoch
        self.assigner = self.initial_assigner if self.initial else self.alignment_assigner

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) probabilities, reg (B, N, 4) boxes in pixels."""
        priors = self.priors(feats)
        cls, reg, start = [], [], 0
        for feat, scale, size in zip(feats, self.scales, priors.level_sizes, strict=True):
            layers = [feat]
            for conv in self.inter_convs:
                layers.append(conv(layers[-1]))
            all_layers = torch.cat(layers[1:], 1)
            mean = all_layers.mean((2, 3), keepdim=True)
            logits = self.tood_cls(self.cls_decomp(all_layers, mean))
            cls.append(geometric_mean(logits.float(), self.cls_prob_module(all_layers).float()))
            deltas = scale(self.tood_reg(self.reg_decomp(all_layers, mean))).float()
            level = Priors(priors.boxes[start:start + size], priors.strides[start:start + size], (size,))
            boxes = self.box_map(level, deltas)
            reg.append(moved_boxes(boxes, self.reg_offset_module(all_layers).float()))
            start += size
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4)}

    def box_map(self, priors: Priors, deltas: Tensor) -> Tensor:
        """Boxes (B, 4, H, W) in pixels of one level, from what is regressed (B, 4, H, W)."""
        flat = flatten_levels([deltas], 4)
        if self.anchor_free:
            boxes = distance_to_box(box_center(priors.boxes), flat.exp() * priors.strides[:, None])
        else:
            boxes = self.coder.decode(priors, flat)
        return boxes.transpose(1, 2).reshape(deltas.shape)

    def scores(self, out: Outputs) -> Tensor:
        return out['cls']

    def decode(self, priors: Priors, reg: Tensor, max_shape: Tensor | None = None) -> Tensor:
        return reg

    def predictions(self, out: Outputs, priors: Priors) -> Predictions:
        return Predictions(out['reg'], out['cls'].logit(), out['cls'])

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class loss against the alignment, box loss weighted by it; by the centerness in the first epochs."""
        positive = assignment.positive
        labels = torch.where(positive, gt_labels, self.num_classes)
        weight = class_weight(assignment, self.training_cfg.pos_weight)
        pred, target = matched_boxes(out['reg'], gt_boxes, positive)
        if self.initial:
            quality = centerness(box_center(priors.boxes), gt_boxes, positive)
            cls = self.initial_loss_cls(out['cls'], labels, weight, avg_factor=_at_least_one(positive.float()))
        else:
            quality = assignment.score
            cls = self.loss_cls(out['cls'], (labels, quality), weight, avg_factor=_at_least_one(quality))
        return {'loss_cls': cls, 'loss_bbox': self.loss_bbox(pred, target, quality, avg_factor=_at_least_one(quality))}


def _at_least_one(weight: Tensor) -> Tensor:
    return reduce_mean(weight.sum()).clamp(min=1)


def _init(head: TOODHead) -> None:
    """Small weights, offsets and attention smaller still; class scores that begin at 0.01."""
    bias = bias_for_probability(0.01)
    for conv in [*head.inter_convs, head.cls_decomp.reduction_conv, head.reg_decomp.reduction_conv]:
        normal_(conv.conv, 0.01)
    for module, std in ((head.cls_decomp.layer_attention, 0.001), (head.reg_decomp.layer_attention, 0.001),
                        (head.reg_offset_module, 0.001), (head.cls_prob_module, 0.01)):
        for layer in module:
            normal_(layer, std)
    normal_(head.cls_prob_module[-1], 0.01, bias)
    normal_(head.tood_cls, 0.01, bias)
    normal_(head.tood_reg, 0.01)
