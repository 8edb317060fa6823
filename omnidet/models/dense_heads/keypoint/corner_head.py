"""CornerNet's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.models.dense_heads.keypoint.driver import QUARTER, Cell, KeypointHead, Outputs
from omnidet.models.dense_heads.keypoint.layers import CornerTesting, branches, last_levels, pools, start_corner_head
from omnidet.models.parts.corners import (
    SIDES,
    all_pairs,
    best_pairs,
    corner_losses,
    draw_corners,
    find_corners,
    in_picture,
)
from omnidet.models.parts.heatmaps import values_at
from omnidet.nn import initialize
from omnidet.registry import DENSE_HEADS, LOSSES
from omnidet.structures import Targets

Cfg = Mapping[str, Any]

FOCAL: Cfg = {'type': 'GaussianFocalLoss', 'alpha': 2.0, 'gamma': 4.0, 'loss_weight': 1}
EMBEDDING: Cfg = {'type': 'AssociativeEmbeddingLoss', 'pull_weight': 0.25, 'push_weight': 0.25}
OFFSET: Cfg = {'type': 'SmoothL1Loss', 'beta': 1.0, 'loss_weight': 1}


@DENSE_HEADS.register
class CornerHead(KeypointHead):
    """CornerNet: an object is a pair of corners whose embeddings are alike (arXiv:1808.01244).

    Parameters, each a list over the levels: tl_pool, br_pool, and behind them tl_heat, br_heat, tl_off, br_off, tl_emb,
    br_emb.

    Args:
        num_classes: K.
        in_channels: channels of the feature maps.
        num_feat_levels: how many feature maps come in; all train, the last one predicts.
        corner_emb_channels: length of an embedding.
        loss_heatmap, loss_embedding, loss_offset: the losses.
        train_cfg: accepted as configs carry it.
        test_cfg: see `CornerTesting`.
        init_cfg: initial values; where None, those of CornerNet.

    Raises:
        ConfigError: corners without embeddings, which is how they are paired.
    """

    testing_fields = CornerTesting

    def __init__(self, num_classes: int, in_channels: int, num_feat_levels: int = 2, corner_emb_channels: int = 1,
                 loss_heatmap: Cfg = FOCAL, loss_embedding: Cfg = EMBEDDING, loss_offset: Cfg = OFFSET,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(test_cfg)
        if corner_emb_channels < 1:
            raise ConfigError(f'CornerHead: corner_emb_channels is {corner_emb_channels}; corners are paired by their '
                              'embeddings, so it must be 1 at least (CentripetalHead pairs them without)')
        self.num_classes, self.num_feat_levels = num_classes, num_feat_levels
        self.tl_pool = pools(in_channels, num_feat_levels, ('top', 'left'))
        self.br_pool = pools(in_channels, num_feat_levels, ('bottom', 'right'))
        self.tl_heat, self.br_heat = (branches(in_channels, num_classes, num_feat_levels) for _ in SIDES)
        self.tl_off, self.br_off = (branches(in_channels, 2, num_feat_levels) for _ in SIDES)
        self.tl_emb, self.br_emb = (branches(in_channels, corner_emb_channels, num_feat_levels) for _ in SIDES)
        self.loss_heatmap, self.loss_offset = LOSSES.build(loss_heatmap), LOSSES.build(loss_offset)
        self.loss_embedding = LOSSES.build(loss_embedding)
        start_corner_head(self)
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> Outputs:
        """S maps (B, C, H, W) -> for each corner heat (S, B, K, H, W), logits; off (S, B, 2, ...), emb (S, B, M, ...).

        The names are tl_heat, br_heat and so on; the maps are those of the last S levels.
        """
        levels = [self._level(i, x) for i, x in last_levels('CornerHead', feats, self.num_feat_levels)]
        return {name: torch.stack([level[name] for level in levels]).float() for name in levels[0]}

    def _level(self, i: int, x: Tensor) -> Outputs:
        tl, br = self.tl_pool[i](x), self.br_pool[i](x)
        return {'tl_heat': self.tl_heat[i](tl), 'br_heat': self.br_heat[i](br),
                'tl_off': self.tl_off[i](tl), 'br_off': self.br_off[i](br),
                'tl_emb': self.tl_emb[i](tl), 'br_emb': self.br_emb[i](br)}

    def losses(self, out: Outputs, targets: Targets, cell: Cell = QUARTER) -> dict[str, Tensor]:
        """The heat of all cells; at each corner the fraction of a cell, and embeddings pulled together and apart."""
        shape = out['tl_heat'].shape[-2], out['tl_heat'].shape[-1]
        corners = draw_corners(targets, self.num_classes, shape, cell)
        pairs = [self.loss_embedding(*(values_at(m, corners[side].at) for side, m in zip(SIDES, maps, strict=True)),
                                     targets.valid) for maps in zip(out['tl_emb'], out['br_emb'], strict=True)]
        pull, push = (torch.stack(losses).sum() for losses in zip(*pairs, strict=True))
        return {**corner_losses(out, corners, self.loss_heatmap, self.loss_offset), 'pull_loss': pull,
                'push_loss': push}

    def decode(self, out: Outputs, cell: Cell, origin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        test: CornerTesting = self.testing
        tl, br = (find_corners(out, side, test.corner_topk, test.local_maximum_kernel) for side in SIDES)
        boxes = all_pairs(in_picture(tl.xy, cell, origin), in_picture(br.xy, cell, origin))
        tl_emb, br_emb = values_at(out['tl_emb'][-1], tl.at), values_at(out['br_emb'][-1], br.at)    # (B, k, M)
        distance = (tl_emb[:, :, None] - br_emb[:, None]).abs().sum(-1)
        return best_pairs(boxes, distance <= test.distance_threshold, tl, br)
