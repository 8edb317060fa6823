"""FCOS's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs, matched_boxes
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels, through
from omnidet.models.parts.centerness import centerness
from omnidet.models.parts.postprocess import MaskPostprocess
from omnidet.nn import Scale
from omnidet.nn.initialize import initialize
from omnidet.ops.boxes import box_center
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import DENSE_HEADS, LOSSES, PRIORS
from omnidet.structures import Assignment, Priors

Cfg = Mapping[str, Any]

INF = 1e8
RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, INF))
DISTANCES: Cfg = {'type': 'DistancePointBBoxCoder'}
FOCAL: Cfg = {'type': 'FocalLoss', 'use_sigmoid': True, 'gamma': 2.0, 'alpha': 0.25, 'loss_weight': 1.0}
IOU: Cfg = {'type': 'IoULoss', 'loss_weight': 1.0}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 1.0}
CROSS_ENTROPY: Cfg = {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'loss_weight': 1.0}
GROUP_NORM: Cfg = {'type': 'GN', 'num_groups': 32, 'requires_grad': True}
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01,
               'override': {'type': 'Normal', 'name': 'conv_cls', 'std': 0.01, 'bias_prob': 0.01}}


@DENSE_HEADS.register
class FCOSHead(DenseHead):
    """FCOS's head: points, distances to the four sides, and a centerness (arXiv:1904.01355).

    Parameters: cls_convs, reg_convs, conv_cls, conv_reg, conv_centerness, scales.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        regress_ranges: (least, greatest) distance in pixels that each level regresses.
        center_sampling, center_sample_radius: take points alone within so many strides of an object's centre.
        norm_on_bbox: regress distances in strides, cut at 0, not the logarithms of distances in pixels.
        centerness_on_reg: predict the centerness from the regression's tower.
        feat_channels, stacked_convs: channels and convolutions of a tower.
        strides: pixels between the points of each level.
        dcn_on_last_conv: make the towers' last convolution deformable.
        conv_bias: whether the towers' convolutions have a bias; 'auto' for where they have no norm.
        loss_cls, loss_bbox, loss_centerness: the losses.
        bbox_coder: how boxes are regressed at points.
        conv_cfg, norm_cfg: the kinds of the towers' layers.
        train_cfg: accepted as configs carry it; the assigner is described by the arguments above.
        test_cfg: see `GridPostprocess`.
        init_cfg: initial values; normal of std 0.01, class scores that begin at 0.01, where None.
    """

    def __init__(self, num_classes: int, in_channels: int, regress_ranges: Sequence[tuple[float, float]] = RANGES,
                 center_sampling: bool = False, center_sample_radius: float = 1.5, norm_on_bbox: bool = False,
                 centerness_on_reg: bool = False, loss_cls: Cfg = FOCAL, loss_bbox: Cfg = IOU,
                 loss_centerness: Cfg = CROSS_ENTROPY, norm_cfg: Cfg | None = GROUP_NORM,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, feat_channels: int = 256, stacked_convs: int = 4,
                 strides: Sequence[int] = (4, 8, 16, 32, 64), dcn_on_last_conv: bool = False,
                 conv_bias: bool | str = 'auto', bbox_coder: Cfg = DISTANCES, conv_cfg: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None) -> None:
        super().__init__({'type': 'MlvlPointGenerator', 'strides': strides}, bbox_coder,
                         {'assigner': {'type': 'RegressRangeAssigner', 'regress_ranges': regress_ranges,
                                       'center_sampling': center_sampling,
                                       'center_sample_radius': center_sample_radius}}, test_cfg)
        self.num_classes, self.norm_on_bbox, self.centerness_on_reg = num_classes, norm_on_bbox, centerness_on_reg
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.loss_centerness = LOSSES.build(loss_centerness)

        def tower() -> nn.ModuleList:
            last: Cfg | None = {'type': 'DCNv2'} if dcn_on_last_conv else None
            return conv_tower(in_channels, feat_channels, stacked_convs, last, conv_cfg=conv_cfg, norm_cfg=norm_cfg,
                              bias=conv_bias)

        self.cls_convs, self.reg_convs = tower(), tower()
        self.conv_cls = nn.Conv2d(feat_channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(feat_channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(feat_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in strides)
        initialize(self, init_cfg, NORMAL)

    def towers(self, feats: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """L maps (B, C, H_l, W_l) -> for each level those of the class tower and of the regression's."""
        return [(through(self.cls_convs, feat), through(self.reg_convs, feat)) for feat in feats]

    def outputs(self, towers: Sequence[tuple[Tensor, Tensor]]) -> Outputs:
        """What `towers` gave -> cls (B, N, K) logits, reg (B, N, 4) distances in pixels, quality (B, N, 1)."""
        cls, reg, quality = [], [], []
        for (c, r), scale, (stride, _) in zip(towers, self.scales, self.prior_generator.strides, strict=True):
            distance = scale(self.conv_reg(r)).float()
            cls.append(self.conv_cls(c))
            reg.append(distance.relu() * stride if self.norm_on_bbox else distance.exp())
            quality.append(self.conv_centerness(r if self.centerness_on_reg else c))
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4),
                'quality': flatten_levels(quality, 1)}

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits, reg (B, N, 4) distances in pixels, quality (B, N, 1)."""
        return self.outputs(self.towers(feats))

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Class and centerness loss over the positives, and the box loss, weighted by `box_weights`."""
        positive = assignment.positive
        count = reduce_mean(positive.sum().float()).clamp(min=1)
        quality = centerness(box_center(priors.boxes), gt_boxes, positive)    # (B, N)
        weights = self.box_weights(quality, positive)
        pred, target = matched_boxes(self.decode(priors, out['reg']), gt_boxes, positive)
        return {'loss_cls': self.loss_cls(out['cls'], torch.where(positive, gt_labels, self.num_classes),
                                          avg_factor=count),
                'loss_bbox': self.loss_bbox(pred, target, weights,
                                            avg_factor=reduce_mean(weights.sum()).clamp(min=1e-6)),
                'loss_centerness': self.loss_centerness(out['quality'][..., 0], quality, positive.float(),
                                                        avg_factor=count)}

    def box_weights(self, quality: Tensor, positive: Tensor) -> Tensor:
        """How much each prior's box counts in the loss, (B, N): as the centerness that it should have."""
        return quality


@DENSE_HEADS.register
class CondInstBboxHead(FCOSHead):
    """FCOS's head that also predicts the network of each object's mask (CondInst, arXiv:2003.05664).

    Parameters: those of FCOS, controller.

    Args:
        num_params: numbers that an object's network has.
        The others: see `FCOSHead`; `test_cfg` has the fields of `MaskPostprocess`.
    """

    testing_fields = MaskPostprocess

    def __init__(self, num_classes: int, in_channels: int, regress_ranges: Sequence[tuple[float, float]] = RANGES,
                 center_sampling: bool = False, center_sample_radius: float = 1.5, norm_on_bbox: bool = False,
                 centerness_on_reg: bool = False, loss_cls: Cfg = FOCAL, loss_bbox: Cfg = IOU,
                 loss_centerness: Cfg = CROSS_ENTROPY, norm_cfg: Cfg | None = GROUP_NORM,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, feat_channels: int = 256, stacked_convs: int = 4,
                 strides: Sequence[int] = (4, 8, 16, 32, 64), dcn_on_last_conv: bool = False,
                 conv_bias: bool | str = 'auto', bbox_coder: Cfg = DISTANCES, conv_cfg: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None, num_params: int = 169) -> None:
        super().__init__(num_classes, in_channels, regress_ranges, center_sampling, center_sample_radius, norm_on_bbox,
                         centerness_on_reg, loss_cls, loss_bbox, loss_centerness, norm_cfg, init_cfg, feat_channels,
                         stacked_convs, strides, dcn_on_last_conv, conv_bias, bbox_coder, conv_cfg, train_cfg, test_cfg)
        self.controller = nn.Conv2d(feat_channels, num_params, 3, padding=1)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """As `FCOSHead.forward`, and kernel (B, N, num_params)."""
        towers = self.towers(feats)
        kernel = flatten_levels([self.controller(r) for _, r in towers], self.controller.out_channels)
        return {**self.outputs(towers), 'kernel': kernel}


@DENSE_HEADS.register
class TorchvisionFCOSHead(FCOSHead):
    """FCOS's head as torchvision has it, for weights that were trained with it.

    Points lie at the corners of cells; a candidate's score is the root of class probability times centerness, and it is
    chosen by that; the box loss is not weighted by the centerness.

    Args: see `FCOSHead`.
    """

    def __init__(self, num_classes: int, in_channels: int, regress_ranges: Sequence[tuple[float, float]] = RANGES,
                 center_sampling: bool = True, center_sample_radius: float = 1.5, norm_on_bbox: bool = True,
                 centerness_on_reg: bool = True, loss_cls: Cfg = FOCAL, loss_bbox: Cfg = GIOU,
                 loss_centerness: Cfg = CROSS_ENTROPY, norm_cfg: Cfg | None = GROUP_NORM,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, feat_channels: int = 256, stacked_convs: int = 4,
                 strides: Sequence[int] = (8, 16, 32, 64, 128), dcn_on_last_conv: bool = False,
                 conv_bias: bool | str = True, bbox_coder: Cfg = DISTANCES, conv_cfg: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None) -> None:
        super().__init__(num_classes, in_channels, regress_ranges, center_sampling, center_sample_radius, norm_on_bbox,
                         centerness_on_reg, loss_cls, loss_bbox, loss_centerness, norm_cfg, init_cfg, feat_channels,
                         stacked_convs, strides, dcn_on_last_conv, conv_bias, bbox_coder, conv_cfg, train_cfg, test_cfg)
        self.prior_generator = PRIORS.build({'type': 'TorchvisionAnchorGenerator', 'strides': strides,
                                             'sizes': strides, 'ratios': [1.0]})

    def scores(self, out: Outputs) -> Tensor:
        """(B, N, K) in 0..1."""
        return (out['cls'].sigmoid() * out['quality'].sigmoid()).sqrt()

    def quality(self, out: Outputs) -> None:
        """None: it is part of the scores."""

    def box_weights(self, quality: Tensor, positive: Tensor) -> Tensor:
        """All positives count alike."""
        return positive.float()
