"""The head that proposes boxes to a second stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs, anchor_losses
from omnidet.models.dense_heads.grid.layers import flatten_levels
from omnidet.models.parts.postprocess import GridPostprocess
from omnidet.models.parts.proposals import as_results, propose_by_level
from omnidet.nn import ConvModule
from omnidet.nn.initialize import initialize
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, ImageMeta, Priors, Proposals, Result

Cfg = Mapping[str, Any]

ANCHORS: Cfg = {'type': 'AnchorGenerator', 'scales': [8, 16, 32], 'ratios': [0.5, 1.0, 2.0],
                'strides': [4, 8, 16, 32, 64]}
DELTAS: Cfg = {'type': 'DeltaXYWHBBoxCoder', 'clip_border': True, 'target_means': (0.0, 0.0, 0.0, 0.0),
               'target_stds': (1.0, 1.0, 1.0, 1.0)}
CROSS_ENTROPY: Cfg = {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'loss_weight': 1.0}
SMOOTH_L1: Cfg = {'type': 'SmoothL1Loss', 'beta': 1.0 / 9.0, 'loss_weight': 1.0}
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01}


@DENSE_HEADS.register
class RPNHead(DenseHead):
    """Region proposal network: objects of any class against background (Faster R-CNN, arXiv:1506.01497, section 3.1).

    Parameters: rpn_conv, rpn_cls, rpn_reg.

    Args:
        in_channels: channels of the feature maps.
        num_classes: must be 1.
        init_cfg: initial values; normal of std 0.01 where None.
        num_convs: convolutions before the two last ones.
        feat_channels: their channels.
        anchor_generator, bbox_coder: the priors, and how boxes are regressed at them.
        reg_decoded_bbox: take the box loss on boxes, not on what is regressed.
        loss_cls, loss_bbox: the losses.
        train_cfg, test_cfg: see `GridTraining` and `GridPostprocess`.
    """

    def __init__(self, in_channels: int, num_classes: int = 1, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 num_convs: int = 1, feat_channels: int = 256, anchor_generator: Cfg = ANCHORS,
                 bbox_coder: Cfg = DELTAS, reg_decoded_bbox: bool = False, loss_cls: Cfg = CROSS_ENTROPY,
                 loss_bbox: Cfg = SMOOTH_L1, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        if num_classes != 1:
            raise ConfigError(f'RPNHead: num_classes is {num_classes}; it must be 1, as proposals have no class')
        self.num_classes, self.reg_decoded_bbox = 1, reg_decoded_bbox
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.use_sigmoid_cls = self.loss_cls.use_sigmoid
        self.cls_channels = 1 if self.use_sigmoid_cls else 2
        anchors = self.prior_generator.num_base_priors[0]
        self.rpn_conv: nn.Module
        if num_convs > 1:
            self.rpn_conv = nn.Sequential(*(ConvModule(in_channels if i == 0 else feat_channels, feat_channels, 3,
                                                       padding=1) for i in range(num_convs)))
        else:
            self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, anchors * self.cls_channels, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, anchors * self.coder.encode_size, 1)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, 1) logits (2 under a softmax), reg (B, N, 4) deltas."""
        shared = [self.rpn_conv(feat).relu() for feat in feats]
        return {'cls': flatten_levels([self.rpn_cls(s) for s in shared], self.cls_channels),
                'reg': flatten_levels([self.rpn_reg(s) for s in shared], self.coder.encode_size)}

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class loss on the sampled anchors, box loss on the positive ones, both over how many were sampled."""
        cls, bbox = anchor_losses(self, out, priors, assignment, gt_boxes, torch.zeros_like(gt_labels))
        return {'loss_rpn_cls': cls, 'loss_rpn_bbox': bbox}

    @torch.no_grad()
    def proposals(self, out: Outputs, priors: Priors, metas: Sequence[ImageMeta],
                  options: GridPostprocess) -> Proposals:
        """Each level's best; see `propose_by_level`."""
        cls = out['cls']
        # of two logits under a softmax, the difference is the logit of the first
        logits = cls[..., 0] if self.use_sigmoid_cls else cls[..., 0] - cls[..., 1]
        sizes = torch.tensor([meta.img_shape for meta in metas], device=logits.device)
        return propose_by_level(logits, out['reg'], priors, self.coder, sizes, options)

    def predict(self, feats: Sequence[Tensor], metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The proposals of each image as detections of class 0, in pixels of its file where `rescale`."""
        results = as_results(self.propose(feats, metas))
        if rescale:
            for result, meta in zip(results, metas, strict=True):
                result.boxes = result.boxes / result.boxes.new_tensor([*meta.scale_factor, *meta.scale_factor])
        return results
