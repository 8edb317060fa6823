"""RTMDet's heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels, through
from omnidet.models.dense_heads.grid.rtmdet_parts import init_rtmdet, rtmdet_losses, share_convs, with_objectness
from omnidet.nn import ConvModule, DepthwiseSeparableConvModule, Scale
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, Priors

Cfg = Mapping[str, Any]

POINTS: Cfg = {'type': 'MlvlPointGenerator', 'offset': 0, 'strides': [8, 16, 32]}
DISTANCES: Cfg = {'type': 'DistancePointBBoxCoder'}
QFL: Cfg = {'type': 'QualityFocalLoss', 'use_sigmoid': True, 'beta': 2.0, 'loss_weight': 1.0}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 2.0}


@DENSE_HEADS.register
class RTMDetHead(DenseHead):
    """RTMDet's head with one tower for all levels (arXiv:2212.07784).

    Parameters: cls_convs, reg_convs, rtm_cls, rtm_reg, rtm_obj, scales.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        with_objectness: predict an objectness beside the classes and score by the geometric mean of both.
        act_cfg, conv_cfg, norm_cfg: the kinds of the towers' layers.
        pred_kernel_size: window of the last convolutions.
        stacked_convs: convolutions in a tower.
        feat_channels: channels of a tower.
        reg_decoded_bbox: must be True, as the box loss is on decoded boxes.
        anchor_generator, bbox_coder: the priors, and how boxes are regressed at them.
        loss_cls, loss_bbox: the losses.
        loss_centerness: accepted as configs carry it; there is no centerness here.
        train_cfg, test_cfg: see `GridTraining` and `GridPostprocess`.
        init_cfg: accepted as configs carry it.
    """

    def __init__(self, num_classes: int, in_channels: int, with_objectness: bool = True,
                 act_cfg: Cfg = {'type': 'ReLU'}, pred_kernel_size: int = 3, stacked_convs: int = 4,
                 conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = {'type': 'GN', 'num_groups': 32, 'requires_grad': True},
                 feat_channels: int = 256, reg_decoded_bbox: bool = True, anchor_generator: Cfg = POINTS,
                 bbox_coder: Cfg = DISTANCES, loss_cls: Cfg = QFL, loss_bbox: Cfg = GIOU,
                 loss_centerness: Cfg | None = None, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes, self.with_objectness = num_classes, with_objectness
        cfgs: Any = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}

        def tower() -> nn.ModuleList:
            return conv_tower(in_channels, feat_channels, stacked_convs, **cfgs)

        def last(channels: int) -> nn.Conv2d:
            return nn.Conv2d(feat_channels, channels, pred_kernel_size, padding=pred_kernel_size // 2)

        self.cls_convs, self.reg_convs = tower(), tower()
        self.rtm_cls, self.rtm_reg = last(num_classes), last(4)
        if with_objectness:
            self.rtm_obj = last(1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        init_rtmdet(self)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits, reg (B, N, 4) distances in pixels."""
        cls, reg = [], []
        for feat, scale, stride in zip(feats, self.scales, self.prior_generator.strides, strict=True):
            c, r = through(self.cls_convs, feat), through(self.reg_convs, feat)
            logits = self.rtm_cls(c)
            cls.append(with_objectness(logits, self.rtm_obj(r)) if self.with_objectness else logits)
            reg.append(scale(self.rtm_reg(r).exp()).float() * stride[0])
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4)}

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class loss against the boxes' IoUs, box loss weighted by them, both over their sum."""
        return rtmdet_losses(self, out, priors, assignment, gt_boxes, gt_labels)


@DENSE_HEADS.register
class RTMDetSepBNHead(DenseHead):
    """RTMDet's head whose levels share convolutions but not batch norms (arXiv:2212.07784, section 3.1).

    Parameters, each a list over levels: cls_convs, reg_convs, rtm_cls, rtm_reg, rtm_obj.

    Args:
        share_conv: let all levels use the first one's convolutions.
        use_depthwise: make the towers' convolutions depthwise-separable.
        exp_on_reg: regress the logarithm of a distance.
        The others: see `RTMDetHead`.
    """

    def __init__(self, num_classes: int, in_channels: int, share_conv: bool = True, use_depthwise: bool = False,
                 norm_cfg: Cfg | None = {'type': 'BN', 'momentum': 0.03, 'eps': 0.001},
                 act_cfg: Cfg = {'type': 'SiLU'}, pred_kernel_size: int = 1, exp_on_reg: bool = False,
                 with_objectness: bool = True, stacked_convs: int = 4, conv_cfg: Cfg | None = None,
                 feat_channels: int = 256, reg_decoded_bbox: bool = True, anchor_generator: Cfg = POINTS,
                 bbox_coder: Cfg = DISTANCES, loss_cls: Cfg = QFL, loss_bbox: Cfg = GIOU,
                 loss_centerness: Cfg | None = None, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | None = None) -> None:
        super().__init__(anchor_generator, bbox_coder, train_cfg, test_cfg)
        self.num_classes, self.with_objectness, self.exp_on_reg = num_classes, with_objectness, exp_on_reg
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        cfgs: Any = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        levels = range(len(self.prior_generator.strides))

        def towers() -> nn.ModuleList:
            return nn.ModuleList(conv_tower(in_channels, feat_channels, stacked_convs, module=conv, **cfgs)
                                 for _ in levels)

        def last(channels: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(feat_channels, channels, pred_kernel_size, padding=pred_kernel_size // 2)
                                 for _ in levels)

        self.cls_convs, self.reg_convs = towers(), towers()
        self.rtm_cls, self.rtm_reg = last(num_classes), last(4)
        if with_objectness:
            self.rtm_obj = last(1)
        if share_conv:
            for convs in (self.cls_convs, self.reg_convs):
                for tower in convs[1:]:
                    for mine, first in zip(tower, convs[0], strict=True):
                        share_convs(mine, first)
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        init_rtmdet(self)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits, reg (B, N, 4) distances in pixels."""
        cls, reg = [], []
        for i, (feat, stride) in enumerate(zip(feats, self.prior_generator.strides, strict=True)):
            c, r = through(self.cls_convs[i], feat), through(self.reg_convs[i], feat)
            logits, distance = self.rtm_cls[i](c), self.rtm_reg[i](r)
            cls.append(with_objectness(logits, self.rtm_obj[i](r)) if self.with_objectness else logits)
            reg.append((distance.exp() if self.exp_on_reg else distance) * stride[0])
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4)}

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class loss against the boxes' IoUs, box loss weighted by them, both over their sum."""
        return rtmdet_losses(self, out, priors, assignment, gt_boxes, gt_labels)
