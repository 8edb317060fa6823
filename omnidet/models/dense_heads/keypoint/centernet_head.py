"""CenterNet's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.dense_heads.keypoint.driver import QUARTER, Cell, KeypointHead, KeypointTesting, Outputs
from omnidet.models.parts.heatmaps import (
    cells_of,
    gaussian_heatmap,
    gaussian_radius,
    in_pixels,
    local_maxima,
    on_map,
    top_peaks,
    values_at,
    visible,
)
from omnidet.nn import bias_for_probability, initialize, normal_
from omnidet.ops.boxes import box_center
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Targets

Cfg = Mapping[str, Any]

MIN_OVERLAP = 0.3
"""The IoU that a box keeps when its corners move by the radius of its Gaussian."""

FOCAL: Cfg = {'type': 'GaussianFocalLoss', 'loss_weight': 1.0}
SIZE_L1: Cfg = {'type': 'L1Loss', 'loss_weight': 0.1}
OFFSET_L1: Cfg = {'type': 'L1Loss', 'loss_weight': 1.0}


@dataclass(frozen=True)
class CenterNetTesting(KeypointTesting):
    """CenterNet's `test_cfg`.

    Attributes:
        topk: how many peaks of an image become boxes.
        The others: see `KeypointTesting`.
    """

    topk: int = 100


@DENSE_HEADS.register
class CenterNetHead(KeypointHead):
    """CenterNet: an object is a peak at its centre, with a size and the fraction of a pixel (arXiv:1904.07850).

    Parameters: heatmap_head, wh_head, offset_head. The one map that comes in has a quarter of the image's sides.

    Args:
        in_channels: channels of the feature map.
        feat_channels: channels inside the three small heads.
        num_classes: K.
        loss_center_heatmap, loss_wh, loss_offset: the losses.
        train_cfg: accepted as configs carry it.
        test_cfg: see `CenterNetTesting`.
        init_cfg: initial values; where None, those of the last layers are normal of std 0.001, and scores begin at 0.1.
    """

    testing_fields = CenterNetTesting

    def __init__(self, in_channels: int, feat_channels: int, num_classes: int, loss_center_heatmap: Cfg = FOCAL,
                 loss_wh: Cfg = SIZE_L1, loss_offset: Cfg = OFFSET_L1, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(test_cfg)
        self.num_classes = num_classes

        def head(channels: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(in_channels, feat_channels, 3, padding=1), nn.ReLU(inplace=True),
                                 nn.Conv2d(feat_channels, channels, 1))

        self.heatmap_head, self.wh_head, self.offset_head = head(num_classes), head(2), head(2)
        self.loss_center_heatmap = LOSSES.build(loss_center_heatmap)
        self.loss_wh, self.loss_offset = LOSSES.build(loss_wh), LOSSES.build(loss_offset)
        nn.init.constant_(self.heatmap_head[-1].bias, bias_for_probability(0.1))
        for part in (self.wh_head, self.offset_head):
            for m in part:
                normal_(m, 0.001)
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """One map (B, C, H, W) -> heat (B, K, H, W) in 0..1, wh (B, 2, H, W) and offset (B, 2, H, W) in its pixels."""
        feat, = feats
        return {'heat': self.heatmap_head(feat).float().sigmoid(), 'wh': self.wh_head(feat).float(),
                'offset': self.offset_head(feat).float()}

    def losses(self, out: Outputs, targets: Targets, cell: Cell = QUARTER) -> dict[str, Tensor]:
        """The heat of all cells, and at each object's centre its size and the fraction of a cell."""
        H, W = out['heat'].shape[-2:]
        boxes = on_map(targets.boxes, cell)
        center, wh = box_center(boxes), boxes[..., 2:] - boxes[..., :2]    # (B, G, 2)
        place = cells_of(center, (H, W))
        radius = gaussian_radius(wh[..., 1], wh[..., 0], MIN_OVERLAP).long()
        heat = gaussian_heatmap(place, radius, targets.labels, targets.valid, self.num_classes, (H, W))
        total = (heat == 1).sum().clamp(min=1)
        at = place[..., 1] * W + place[..., 0]
        seen = visible(at, targets.valid)
        return {'loss_center_heatmap': self.loss_center_heatmap(out['heat'], heat, avg_factor=total),
                'loss_wh': self.loss_wh(values_at(out['wh'], at), wh, seen, avg_factor=total * 2),
                'loss_offset': self.loss_offset(values_at(out['offset'], at), center - place, seen,
                                                avg_factor=total * 2)}

    def decode(self, out: Outputs, cell: Cell, origin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        peaks = top_peaks(local_maxima(out['heat'], self.testing.local_maximum_kernel), self.testing.topk)
        W = out['heat'].shape[-1]
        place = torch.stack([peaks.at % W, peaks.at // W], -1)    # (B, k, 2)
        center, half = place + values_at(out['offset'], peaks.at), values_at(out['wh'], peaks.at) / 2
        return in_pixels(torch.cat([center - half, center + half], -1), cell), peaks.scores, peaks.labels
