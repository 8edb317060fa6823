"""CentripetalNet's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.dense_heads.keypoint.driver import QUARTER, Cell, KeypointHead, Outputs
from omnidet.models.dense_heads.keypoint.layers import CornerTesting, branches, last_levels, pools, start_corner_head
from omnidet.models.parts.corners import (
    SIDES,
    all_pairs,
    at_corners,
    best_pairs,
    corner_losses,
    draw_corners,
    find_corners,
    in_picture,
    share_a_center,
)
from omnidet.models.parts.heatmaps import values_at
from omnidet.nn import ConvModule, initialize, normal_
from omnidet.nn.deform_conv import DeformConv2d
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Targets

Cfg = Mapping[str, Any]

FOCAL: Cfg = {'type': 'GaussianFocalLoss', 'alpha': 2.0, 'gamma': 4.0, 'loss_weight': 1}
OFFSET: Cfg = {'type': 'SmoothL1Loss', 'beta': 1.0, 'loss_weight': 1}
GUIDING: Cfg = {'type': 'SmoothL1Loss', 'beta': 1.0, 'loss_weight': 0.05}

LEAST_SHIFT = 1e-2
"""Cells between a corner and the centre whose logarithm is learned at least: a box without extent has no direction."""


@DENSE_HEADS.register
class CentripetalHead(KeypointHead):
    """CentripetalNet: an object is a pair of corners that point to one centre (arXiv:2003.09119).

    A guiding shift, from a corner's cell to the centre, says where a deformable convolution looks; what that sees
    gives the centripetal shift, the logarithm of the way from the corner to the centre, by which corners are paired.

    Parameters, each a list over the levels: tl_pool, br_pool, and behind them tl_heat, br_heat, tl_off, br_off,
    tl_guiding_shift, br_guiding_shift, tl_dcn_offset, br_dcn_offset, tl_feat_adaption, br_feat_adaption,
    tl_centripetal_shift, br_centripetal_shift.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        num_feat_levels: how many feature maps come in; all train, the last one predicts.
        corner_emb_channels: 0; there are no embeddings.
        centripetal_shift_channels, guiding_shift_channels: 2, x and y.
        feat_adaption_conv_kernel: side of the deformable convolution.
        loss_heatmap, loss_offset, loss_guiding_shift, loss_centripetal_shift: the losses.
        loss_embedding: accepted as configs carry it.
        train_cfg: accepted as configs carry it.
        test_cfg: see `CornerTesting`.
        init_cfg: initial values; where None, those of CentripetalNet.

    Raises:
        ConfigError: embeddings, or shifts of other than two numbers.
    """

    testing_fields = CornerTesting

    def __init__(self, num_classes: int, in_channels: int, num_feat_levels: int = 2, corner_emb_channels: int = 0,
                 centripetal_shift_channels: int = 2, guiding_shift_channels: int = 2,
                 feat_adaption_conv_kernel: int = 3, loss_heatmap: Cfg = FOCAL, loss_embedding: Cfg | None = None,
                 loss_offset: Cfg = OFFSET, loss_guiding_shift: Cfg = GUIDING, loss_centripetal_shift: Cfg = OFFSET,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(test_cfg)
        if corner_emb_channels != 0:
            raise ConfigError(f'CentripetalHead: corner_emb_channels is {corner_emb_channels}; corners are paired by '
                              'their shifts, so it must be 0 (CornerHead pairs them by embeddings)')
        if (centripetal_shift_channels, guiding_shift_channels) != (2, 2):
            raise ConfigError(f'CentripetalHead: centripetal_shift_channels is {centripetal_shift_channels} and '
                              f'guiding_shift_channels {guiding_shift_channels}; a shift has 2, x and y')
        self.num_classes, self.num_feat_levels = num_classes, num_feat_levels
        levels, kernel = range(num_feat_levels), feat_adaption_conv_kernel
        self.tl_pool = pools(in_channels, num_feat_levels, ('top', 'left'))
        self.br_pool = pools(in_channels, num_feat_levels, ('bottom', 'right'))
        self.tl_heat, self.br_heat = (branches(in_channels, num_classes, num_feat_levels) for _ in SIDES)
        self.tl_off, self.br_off = (branches(in_channels, 2, num_feat_levels) for _ in SIDES)
        self.tl_guiding_shift, self.br_guiding_shift = (branches(in_channels, 2, num_feat_levels) for _ in SIDES)
        self.tl_dcn_offset, self.br_dcn_offset = (
            nn.ModuleList(ConvModule(2, 2 * kernel ** 2, 1, bias=False, act_cfg=None) for _ in levels) for _ in SIDES)
        self.tl_feat_adaption, self.br_feat_adaption = (
            nn.ModuleList(DeformConv2d(in_channels, in_channels, kernel, padding=kernel // 2) for _ in levels)
            for _ in SIDES)
        self.tl_centripetal_shift, self.br_centripetal_shift = (
            branches(in_channels, 2, num_feat_levels) for _ in SIDES)
        self.loss_heatmap, self.loss_offset = LOSSES.build(loss_heatmap), LOSSES.build(loss_offset)
        self.loss_guiding_shift = LOSSES.build(loss_guiding_shift)
        self.loss_centripetal_shift = LOSSES.build(loss_centripetal_shift)
        start_corner_head(self)
        for i in levels:
            for side in SIDES:
                normal_(getattr(self, f'{side}_feat_adaption')[i], 0.01)
                normal_(getattr(self, f'{side}_dcn_offset')[i].conv, 0.1)
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """S maps (B, C, H, W) -> for each corner heat (S, B, K, H, W), logits, and off, guide and shift (S, B, 2, ...).

        The names are tl_heat, br_heat and so on; the maps are those of the last S levels.
        """
        levels = [self._level(i, x) for i, x in last_levels('CentripetalHead', feats, self.num_feat_levels)]
        return {name: torch.stack([level[name] for level in levels]).float() for name in levels[0]}

    def _level(self, i: int, x: Tensor) -> Outputs:
        out = {}
        for side in SIDES:
            pooled = getattr(self, f'{side}_pool')[i](x)
            guide = getattr(self, f'{side}_guiding_shift')[i](pooled)
            # the guiding shift learns from its own loss alone
            offset = getattr(self, f'{side}_dcn_offset')[i](guide.detach())
            adapted = getattr(self, f'{side}_feat_adaption')[i](pooled, offset)
            out.update({f'{side}_heat': getattr(self, f'{side}_heat')[i](pooled),
                        f'{side}_off': getattr(self, f'{side}_off')[i](pooled), f'{side}_guide': guide,
                        f'{side}_shift': getattr(self, f'{side}_centripetal_shift')[i](adapted)})
        return out

    def losses(self, out: Outputs, targets: Targets, cell: Cell = QUARTER) -> dict[str, Tensor]:
        """The heat of all cells; at each corner the fraction of a cell, and the ways to the centre."""
        shape = out['tl_heat'].shape[-2], out['tl_heat'].shape[-1]
        corners = draw_corners(targets, self.num_classes, shape, cell)
        tl, br = (corners[side] for side in SIDES)
        center = (tl.xy + br.xy) / 2
        shift = ((br.xy - tl.xy) / 2).clamp(min=LEAST_SHIFT).log()
        guiding = (at_corners(self.loss_guiding_shift, out['tl_guide'], tl, center - tl.place)
                   + at_corners(self.loss_guiding_shift, out['br_guide'], br, br.place - center))
        centripetal = (at_corners(self.loss_centripetal_shift, out['tl_shift'], tl, shift)
                       + at_corners(self.loss_centripetal_shift, out['br_shift'], br, shift))
        return {**corner_losses(out, corners, self.loss_heatmap, self.loss_offset), 'guiding_loss': guiding / 2,
                'centripetal_loss': centripetal / 2}

    def decode(self, out: Outputs, cell: Cell, origin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        test: CornerTesting = self.testing
        tl, br = (find_corners(out, side, test.corner_topk, test.local_maximum_kernel) for side in SIDES)
        boxes = all_pairs(in_picture(tl.xy, cell, origin), in_picture(br.xy, cell, origin))
        tl_center = tl.xy + values_at(out['tl_shift'][-1], tl.at).exp()
        br_center = br.xy - values_at(out['br_shift'][-1], br.at).exp()
        centers = all_pairs(in_picture(tl_center, cell, origin), in_picture(br_center, cell, origin))
        return best_pairs(boxes, share_a_center(boxes, centers, test.distance_threshold), tl, br)
