"""YOLOX's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs, matched_boxes
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels
from omnidet.nn import ConvModule, DepthwiseSeparableConvModule, bias_for_probability
from omnidet.nn.initialize import initialize
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Assignment, Predictions, Priors

Cfg = Mapping[str, Any]

SUM_OF_CROSS_ENTROPY: Cfg = {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'reduction': 'sum', 'loss_weight': 1.0}
SUM_OF_IOU: Cfg = {'type': 'IoULoss', 'mode': 'square', 'eps': 1e-16, 'reduction': 'sum', 'loss_weight': 5.0}
SUM_OF_L1: Cfg = {'type': 'L1Loss', 'reduction': 'sum', 'loss_weight': 1.0}
KAIMING: Cfg = {'type': 'Kaiming', 'layer': 'Conv2d', 'a': 5 ** 0.5, 'distribution': 'uniform', 'mode': 'fan_in',
                'nonlinearity': 'leaky_relu'}


@DENSE_HEADS.register
class YOLOXHead(DenseHead):
    """YOLOX's head: towers for each level by itself, an objectness, no anchors (arXiv:2107.08430).

    Parameters, each a list over levels: multi_level_cls_convs, multi_level_reg_convs, multi_level_conv_cls,
    multi_level_conv_reg, multi_level_conv_obj.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        feat_channels, stacked_convs: channels and convolutions of a tower.
        strides: pixels between the cells of each level.
        use_depthwise: make the towers' convolutions depthwise-separable.
        dcn_on_last_conv: make the towers' last convolution deformable.
        conv_bias: whether the towers' convolutions have a bias; 'auto' for where they have no norm.
        conv_cfg, norm_cfg, act_cfg: the kinds of the towers' layers.
        loss_cls, loss_bbox, loss_obj, loss_l1: the losses; each is a sum, divided by the number of positives here.
        train_cfg, test_cfg: see `GridTraining` and `GridPostprocess`.
        init_cfg: initial values; as torch draws them where None. Scores begin at 0.01.

    Attributes:
        use_l1: take `loss_l1` too, on what is regressed; `YOLOXModeSwitchHook` turns it on for the last epochs.
    """

    def __init__(self, num_classes: int, in_channels: int, feat_channels: int = 256, stacked_convs: int = 2,
                 strides: Sequence[int] = (8, 16, 32), use_depthwise: bool = False, dcn_on_last_conv: bool = False,
                 conv_bias: bool | str = 'auto', conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = {'type': 'BN', 'momentum': 0.03, 'eps': 0.001},
                 act_cfg: Cfg = {'type': 'Swish'}, loss_cls: Cfg = SUM_OF_CROSS_ENTROPY, loss_bbox: Cfg = SUM_OF_IOU,
                 loss_obj: Cfg = SUM_OF_CROSS_ENTROPY, loss_l1: Cfg = SUM_OF_L1, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__({'type': 'MlvlPointGenerator', 'strides': strides}, {'type': 'CellBBoxCoder'}, train_cfg,
                         test_cfg)
        self.num_classes, self.use_l1 = num_classes, False
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.loss_obj, self.loss_l1 = LOSSES.build(loss_obj), LOSSES.build(loss_l1)
        options: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        options |= {'module': DepthwiseSeparableConvModule} if use_depthwise else {'module': ConvModule,
                                                                                   'bias': conv_bias}

        def towers() -> nn.ModuleList:
            last: Cfg | None = {'type': 'DCNv2'} if dcn_on_last_conv else None
            return nn.ModuleList(nn.Sequential(*conv_tower(in_channels, feat_channels, stacked_convs, last, **options))
                                 for _ in strides)

        def lasts(channels: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(feat_channels, channels, 1) for _ in strides)

        self.multi_level_cls_convs, self.multi_level_reg_convs = towers(), towers()
        self.multi_level_conv_cls, self.multi_level_conv_reg = lasts(num_classes), lasts(4)
        self.multi_level_conv_obj = lasts(1)
        initialize(self, init_cfg, KAIMING)
        for conv in [*self.multi_level_conv_cls, *self.multi_level_conv_obj]:
            nn.init.constant_(conv.bias, bias_for_probability(0.01))

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) and objectness (B, N, 1) logits, reg (B, N, 4) deltas."""
        c = [tower(feat) for tower, feat in zip(self.multi_level_cls_convs, feats, strict=True)]
        r = [tower(feat) for tower, feat in zip(self.multi_level_reg_convs, feats, strict=True)]
        cls = [conv(x) for conv, x in zip(self.multi_level_conv_cls, c, strict=True)]
        reg = [conv(x) for conv, x in zip(self.multi_level_conv_reg, r, strict=True)]
        objectness = [conv(x) for conv, x in zip(self.multi_level_conv_obj, r, strict=True)]
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4),
                'objectness': flatten_levels(objectness, 1)}

    def scores(self, out: Outputs) -> Tensor:
        """(B, N, K): of each prior the best class, times its objectness; no candidate (-inf) for the other classes."""
        best, label = out['cls'].float().sigmoid().max(-1, keepdim=True)
        none = torch.full_like(out['cls'], -torch.inf, dtype=torch.float32)
        return none.scatter(-1, label, best * out['objectness'].float().sigmoid())

    def predictions(self, out: Outputs, priors: Priors) -> Predictions:
        scores = (out['cls'].sigmoid() * out['objectness'].sigmoid()).sqrt()
        return Predictions(self.decode(priors, out['reg']), out['cls'], scores)

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """Objectness on all priors; on the positive ones the classes against the IoU, and the box."""
        positive = assignment.positive
        weight, count = positive.float(), reduce_mean(positive.sum().float()).clamp(min=1)
        is_label = gt_labels[..., None] == torch.arange(self.num_classes, device=gt_labels.device)
        pred, target = matched_boxes(self.decode(priors, out['reg']), gt_boxes, positive)
        losses = {'loss_cls': self.loss_cls(out['cls'], is_label * assignment.score[..., None], weight) / count,
                  'loss_bbox': self.loss_bbox(pred, target, weight) / count,
                  'loss_obj': self.loss_obj(out['objectness'][..., 0], weight) / count}
        if self.use_l1:
            deltas = torch.where(positive[..., None], self.coder.encode(priors, gt_boxes), out['reg'].detach())
            losses['loss_l1'] = self.loss_l1(out['reg'], deltas, weight) / count
        return losses
