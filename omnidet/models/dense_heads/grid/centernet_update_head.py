"""The head of CenterNet's update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.dense_heads.grid.driver import DenseHead, Outputs
from omnidet.models.dense_heads.grid.layers import conv_tower, flatten_levels, through
from omnidet.models.parts.center_targets import center_cells, center_targets
from omnidet.nn import Scale, initialize
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Priors, Targets

Cfg = Mapping[str, Any]

INF = 1e8
FOCAL: Cfg = {'type': 'GaussianFocalLoss', 'pos_weight': 0.25, 'neg_weight': 0.75, 'loss_weight': 1.0}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 2.0}
DISTANCES: Cfg = {'type': 'DistancePointBBoxCoder'}
GROUPS: Cfg = {'type': 'GN', 'num_groups': 32, 'requires_grad': True}
NORMAL: Cfg = {'type': 'Normal', 'layer': 'Conv2d', 'std': 0.01,
               'override': {'type': 'Normal', 'name': 'conv_cls', 'std': 0.01, 'bias_prob': 0.01}}


@DENSE_HEADS.register
class CenterNetUpdateHead(DenseHead):
    """CenterNet as the first stage of CenterNet2 has it: FCOS's towers, Gaussian targets (arXiv:2103.07461).

    Parameters: cls_convs, reg_convs, conv_cls, conv_reg, scales.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        regress_ranges: the least and greatest half diagonal in pixels that each level is meant for.
        hm_min_radius, hm_min_overlap: how far the heat of an object reaches; see `center_targets`.
        more_pos_thresh: points around the middle of an object are positive too where their box is as good as this;
            1 - GIoU.
        more_pos_topk: the best so many of them at the most.
        soft_weight_on_reg: weigh the box loss by the heat.
        loss_cls, loss_bbox: the losses.
        norm_cfg, conv_cfg: the kinds of the towers' layers.
        train_cfg: accepted as configs carry it.
        test_cfg: see `GridPostprocess`.
        feat_channels, stacked_convs: channels and convolutions of a tower.
        strides: pixels between the points of each level.
        dcn_on_last_conv: make the towers' last convolutions deformable.
        conv_bias: whether the towers' convolutions have a bias: True, False, or 'auto'.
        bbox_coder: how boxes are regressed.
        init_cfg: initial values; normal of std 0.01, class scores that begin at 0.01, where None.
    """

    ranges: Tensor

    def __init__(self, num_classes: int, in_channels: int,
                 regress_ranges: Sequence[Sequence[float]] = ((0, 80), (64, 160), (128, 320), (256, 640), (512, INF)),
                 hm_min_radius: float = 4, hm_min_overlap: float = 0.8, more_pos_thresh: float = 0.2,
                 more_pos_topk: int = 9, soft_weight_on_reg: bool = False, loss_cls: Cfg = FOCAL,
                 loss_bbox: Cfg = GIOU, norm_cfg: Cfg | None = GROUPS, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, feat_channels: int = 256, stacked_convs: int = 4,
                 strides: Sequence[int] = (8, 16, 32, 64, 128), dcn_on_last_conv: bool = False,
                 conv_bias: bool | str = 'auto', bbox_coder: Cfg = DISTANCES, conv_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__({'type': 'MlvlPointGenerator', 'strides': list(strides)}, bbox_coder, None, test_cfg)
        self.num_classes, self.soft_weight_on_reg = num_classes, soft_weight_on_reg
        self.hm_min_radius, self.hm_min_overlap = hm_min_radius, hm_min_overlap
        self.more_pos_thresh, self.more_pos_topk = more_pos_thresh, more_pos_topk
        self.register_buffer('ranges', torch.tensor(regress_ranges, dtype=torch.float32), persistent=False)
        options = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'bias': conv_bias,
                   'last': {'type': 'DCNv2'} if dcn_on_last_conv else None}
        self.cls_convs = conv_tower(in_channels, feat_channels, stacked_convs, **options)
        self.reg_convs = conv_tower(in_channels, feat_channels, stacked_convs, **options)
        channels = feat_channels if stacked_convs else in_channels
        self.conv_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in strides)
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        initialize(self, init_cfg, NORMAL)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """L maps (B, C, H_l, W_l) -> cls (B, N, K) logits, reg (B, N, 4) distances in pixels."""
        cls = [self.conv_cls(through(self.cls_convs, feat)) for feat in feats]
        reg = [scale(self.conv_reg(through(self.reg_convs, feat))).float().clamp(min=0) * stride[0]
               for feat, scale, stride in zip(feats, self.scales, self.prior_generator.strides, strict=True)]
        return {'cls': flatten_levels(cls, self.num_classes), 'reg': flatten_levels(reg, 4)}

    def loss_of(self, out: Outputs, priors: Priors, targets: Targets) -> dict[str, Tensor]:
        """The losses of what `forward` gave; there are no anchors to assign, so this walk is the head's own."""
        wanted = center_targets(priors, targets, self.ranges, self.num_classes, self.hm_min_radius,
                                self.hm_min_overlap)
        boxes = self.decode(priors, out['reg'].float())
        gt_boxes = targets.boxes.gather(1, wanted.gt[..., None].expand_as(boxes))
        gt_boxes = torch.where(wanted.positive[..., None], gt_boxes, boxes.detach())
        weight = wanted.positive * (wanted.heat.amax(1) if self.soft_weight_on_reg else 1.0)    # (B, N)
        probabilities = out['cls'].float().sigmoid()
        index, positive = self._positives(priors, targets, boxes.detach())    # (B, G, P)
        own = probabilities.flatten(1).gather(1, (index * self.num_classes + targets.labels[..., None]).flatten(1))
        return {'loss_cls': self.loss_cls.with_positives(probabilities, wanted.heat.transpose(1, 2), own,
                                                         positive.flatten(1), _at_least_one(positive.sum())),
                'loss_bbox': self.loss_bbox(boxes, gt_boxes, weight, avg_factor=_at_least_one(weight.sum()))}

    def _positives(self, priors: Priors, targets: Targets, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Points whose class each object should have: that of its middle, and the best ones around it.

        Args:
            boxes: (B, N, 4), the predicted ones.

        Returns:
            Indices (B, G, P) of the points around each object's middle, and which of them are positive.
        """
        cells = center_cells(priors, targets, self.ranges)
        index = cells.index.flatten(2)    # (B, G, P)
        found = boxes.gather(1, index.flatten(1)[..., None].expand(-1, -1, 4)).reshape(*index.shape, 4)
        gt_boxes = targets.boxes[:, :, None].expand_as(found)
        loss = self.loss_bbox(found, gt_boxes, reduction_override='none') / self.loss_bbox.loss_weight
        loss = loss.masked_fill(~cells.usable.flatten(2), INF).masked_fill(cells.middle.flatten(2), 0)
        k = min(self.more_pos_topk, loss.shape[-1])
        limit = loss.topk(k, largest=False).values[..., -1:].clamp(max=self.more_pos_thresh)
        return index, (loss < limit) & targets.valid[..., None]


def _at_least_one(count: Tensor) -> Tensor:
    return reduce_mean(count.float()).clamp(min=1)
