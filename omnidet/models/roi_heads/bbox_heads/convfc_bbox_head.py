"""Box heads of convolutions and fully connected layers, shared and apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from omnidet.models.roi_heads.bbox_heads.bbox_head import (
    DELTAS,
    LINEAR,
    SMOOTH_L1,
    SOFTMAX,
    Outputs,
    RoIBoxHead,
    feature_area,
    predictor_init,
)
from omnidet.nn import ConvModule, initialize
from omnidet.nn.linear import MapLinear, build_linear
from omnidet.registry import ROI_HEADS

Cfg = Mapping[str, Any]


@ROI_HEADS.register
class ConvFCBBoxHead(RoIBoxHead):
    """Shared convolutions, shared linear layers, and then the same again for classes and for boxes apart.

    Parameters: shared_convs, shared_fcs, cls_convs, cls_fcs, reg_convs, reg_fcs, fc_cls, fc_reg.

    Args:
        num_shared_convs, num_shared_fcs: layers before the branches part.
        num_cls_convs, num_cls_fcs, num_reg_convs, num_reg_fcs: layers of each branch. A branch's convolutions need
            that there be no shared linear layer.
        conv_out_channels, fc_out_channels: widths.
        conv_cfg, norm_cfg: the kinds of convolution and norm.
        The others: see `BBoxHead`.
    """

    def __init__(self, num_shared_convs: int = 0, num_shared_fcs: int = 0, num_cls_convs: int = 0,
                 num_cls_fcs: int = 0, num_reg_convs: int = 0, num_reg_fcs: int = 0, conv_out_channels: int = 256,
                 fc_out_channels: int = 1024, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None,
                 with_avg_pool: bool = False, with_cls: bool = True, with_reg: bool = True,
                 roi_feat_size: int | Sequence[int] = 7, in_channels: int = 256, num_classes: int = 80,
                 bbox_coder: Cfg = DELTAS, predict_box_type: str = 'hbox', reg_class_agnostic: bool = False,
                 reg_decoded_bbox: bool = False, reg_predictor_cfg: Cfg = LINEAR, cls_predictor_cfg: Cfg = LINEAR,
                 loss_cls: Cfg = SOFTMAX, loss_bbox: Cfg = SMOOTH_L1,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(num_classes, bbox_coder, reg_class_agnostic, reg_decoded_bbox, loss_cls, loss_bbox, with_cls,
                         with_reg)
        self.with_avg_pool = with_avg_pool
        area = 1 if with_avg_pool else feature_area(roi_feat_size)

        def convs(count: int, width: int) -> tuple[nn.ModuleList, int]:
            widths = [width] + [conv_out_channels] * count
            return nn.ModuleList(ConvModule(i, o, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
                                 for i, o in pairwise(widths)), widths[-1]

        def fcs(count: int, width: int) -> tuple[nn.ModuleList, int]:
            widths = [width] + [fc_out_channels] * count
            return nn.ModuleList(MapLinear(i, o) for i, o in pairwise(widths)), widths[-1]

        self.shared_convs, width = convs(num_shared_convs, in_channels)
        self.shared_fcs, shared = fcs(num_shared_fcs, width * area if num_shared_fcs else width)

        def branch(num_convs: int, num_fcs: int) -> tuple[nn.ModuleList, nn.ModuleList, int]:
            tower, channels = convs(num_convs, shared)
            layers, features = fcs(num_fcs, channels if num_shared_fcs else channels * area)
            return tower, layers, features

        self.cls_convs, self.cls_fcs, cls_width = branch(num_cls_convs, num_cls_fcs)
        self.reg_convs, self.reg_fcs, reg_width = branch(num_reg_convs, num_reg_fcs)
        self.relu = nn.ReLU(inplace=True)
        if with_cls:
            self.fc_cls = build_linear(cls_predictor_cfg, cls_width, self.cls_channels)
        if with_reg:
            self.fc_reg = build_linear(reg_predictor_cfg, reg_width, self.reg_channels)
        hidden = [{'name': name} for name in ('shared_fcs', 'cls_fcs', 'reg_fcs')]
        initialize(self, init_cfg, default=[*predictor_init(with_cls, with_reg), {
            'type': 'Xavier', 'distribution': 'uniform', 'override': hidden}])

    def forward(self, x: Tensor) -> Outputs:
        """(M, C, h, w) features -> cls (M, K + 1) logits, reg (M, 4) or (M, K * 4)."""
        for conv in self.shared_convs:
            x = conv(x)
        if len(self.shared_fcs):
            x = self._connect(x, self.shared_fcs)
        out = {}
        if self.with_cls:
            out['cls'] = self.fc_cls(self._branch(x, self.cls_convs, self.cls_fcs))
        if self.with_reg:
            out['reg'] = self.fc_reg(self._branch(x, self.reg_convs, self.reg_fcs))
        return out

    def _branch(self, x: Tensor, convs: nn.ModuleList, fcs: nn.ModuleList) -> Tensor:
        for conv in convs:
            x = conv(x)
        return self._connect(x, fcs)

    def _connect(self, x: Tensor, fcs: nn.ModuleList) -> Tensor:
        """(M, C, h, w) or (M, C) -> (M, C')."""
        if x.ndim > 2 and self.with_avg_pool:
            x = x.mean((-2, -1))
        for fc in fcs:
            x = self.relu(fc(x))
        return x.flatten(1)


@ROI_HEADS.register
class Shared2FCBBoxHead(ConvFCBBoxHead):
    """Two shared linear layers (FPN's Faster R-CNN, arXiv:1612.03144, section 4.2); arguments as `ConvFCBBoxHead`."""

    def __init__(self, fc_out_channels: int = 1024, conv_out_channels: int = 256, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = None, with_avg_pool: bool = False, with_cls: bool = True,
                 with_reg: bool = True, roi_feat_size: int | Sequence[int] = 7, in_channels: int = 256,
                 num_classes: int = 80, bbox_coder: Cfg = DELTAS, predict_box_type: str = 'hbox',
                 reg_class_agnostic: bool = False, reg_decoded_bbox: bool = False, reg_predictor_cfg: Cfg = LINEAR,
                 cls_predictor_cfg: Cfg = LINEAR, loss_cls: Cfg = SOFTMAX, loss_bbox: Cfg = SMOOTH_L1,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(0, 2, 0, 0, 0, 0, conv_out_channels, fc_out_channels, conv_cfg, norm_cfg, with_avg_pool,
                         with_cls, with_reg, roi_feat_size, in_channels, num_classes, bbox_coder, predict_box_type,
                         reg_class_agnostic, reg_decoded_bbox, reg_predictor_cfg, cls_predictor_cfg, loss_cls,
                         loss_bbox, init_cfg)


@ROI_HEADS.register
class Shared4Conv1FCBBoxHead(ConvFCBBoxHead):
    """Four shared convolutions and one linear layer (arXiv:1803.08494, section 4.2); arguments as `ConvFCBBoxHead`."""

    def __init__(self, fc_out_channels: int = 1024, conv_out_channels: int = 256, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = None, with_avg_pool: bool = False, with_cls: bool = True,
                 with_reg: bool = True, roi_feat_size: int | Sequence[int] = 7, in_channels: int = 256,
                 num_classes: int = 80, bbox_coder: Cfg = DELTAS, predict_box_type: str = 'hbox',
                 reg_class_agnostic: bool = False, reg_decoded_bbox: bool = False, reg_predictor_cfg: Cfg = LINEAR,
                 cls_predictor_cfg: Cfg = LINEAR, loss_cls: Cfg = SOFTMAX, loss_bbox: Cfg = SMOOTH_L1,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(4, 1, 0, 0, 0, 0, conv_out_channels, fc_out_channels, conv_cfg, norm_cfg, with_avg_pool,
                         with_cls, with_reg, roi_feat_size, in_channels, num_classes, bbox_coder, predict_box_type,
                         reg_class_agnostic, reg_decoded_bbox, reg_predictor_cfg, cls_predictor_cfg, loss_cls,
                         loss_bbox, init_cfg)
