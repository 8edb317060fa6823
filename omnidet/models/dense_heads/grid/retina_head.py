"""RetinaNet's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs, anchor_losses
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels, through
from omnidet.nn.initialize import initialize
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, Priors

Cfg = Mapping[str, Any]

ANCHORS: Cfg = {'type': 'AnchorGenerator', 'octave_base_scale': 4, 'scales_per_octave': 3, 'ratios': [0.5, 1.0, 2.0],
                'strides': [8, 16, 32, 64, 128]}
DELTAS: Cfg = {'type': 'DeltaXYWHBBoxCoder', 'clip_border': True, 'target_means': (0.0, 0.0, 0.0, 0.0),
               'target_stds': (1.0, 1.0, 1.0, 1.0)}
FOCAL: Cfg = {'type': 'FocalLoss', 'use_sigmoid': True, 'gamma': 2.0, 'alpha': 0.25, 'loss_weight': 1.0}
SMOOTH_L1: Cfg = {'type': 'SmoothL1Loss', 'beta': 1.0 / 9.0, 'loss_weight': 1.0}
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01,
               'override': {'type': 'Normal', 'name': 'retina_cls', 'std': 0.01, 'bias_prob': 0.01}}


@DENSE_HEADS.register
class RetinaHead(DenseHead):
    """RetinaNet's head: two towers over all levels, anchors, focal loss (arXiv:1708.02002, section 4).

    Parameters: cls_convs, reg_convs, retina_cls, retina_reg.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        stacked_convs: convolutions in a tower.
        conv_cfg, norm_cfg: the kinds of the towers' layers.
        anchor_generator, bbox_coder: the priors, and how boxes are regressed at them.
        init_cfg: initial values; normal of std 0.01, class scores that begin at 0.01, where None.
        feat_channels: channels of a tower.
        reg_decoded_bbox: take the box loss on boxes, not on what is regressed.
        loss_cls, loss_bbox: the losses.
        train_cfg, test_cfg: see `GridTraining` and `GridPostprocess`.
    """

    def __init__(self, num_classes: int, in_channels: int, stacked_convs: int = 4, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = None, anchor_generator: Cfg = ANCHORS,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, feat_channels: int = 256, bbox_coder: Cfg = DELTAS,
                 reg_decoded_bbox: bool = False, loss_cls: Cfg = FOCAL, loss_bbox: Cfg = SMOOTH_L1,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes, self.reg_decoded_bbox = num_classes, reg_decoded_bbox
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.use_sigmoid_cls = self.loss_cls.use_sigmoid
        self.cls_channels = num_classes if self.use_sigmoid_cls else num_classes + 1

        def tower() -> nn.ModuleList:
            return conv_tower(in_channels, feat_channels, stacked_convs, conv_cfg=conv_cfg, norm_cfg=norm_cfg)

        def last(channels: int) -> nn.Conv2d:
            anchors = self.prior_generator.num_base_priors[0]
            return nn.Conv2d(feat_channels if stacked_convs else in_channels, anchors * channels, 3, padding=1)

        self.cls_convs, self.reg_convs = tower(), tower()
        self.retina_cls, self.retina_reg = last(self.cls_channels), last(self.coder.encode_size)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits (K + 1 under a softmax), reg (B, N, 4) deltas."""
        cls = [self.retina_cls(through(self.cls_convs, feat)) for feat in feats]
        reg = [self.retina_reg(through(self.reg_convs, feat)) for feat in feats]
        return {'cls': flatten_levels(cls, self.cls_channels), 'reg': flatten_levels(reg, self.coder.encode_size)}

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class loss on the sampled anchors, box loss on the positive ones, both over how many were sampled."""
        cls, bbox = anchor_losses(self, out, priors, assignment, gt_boxes, gt_labels)
        return {'loss_cls': cls, 'loss_bbox': bbox}
