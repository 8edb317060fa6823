"""Layers and settings that corner heads have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.dense_heads.keypoint.driver import KeypointTesting
from omnidet.nn import ConvModule, bias_for_probability, initialize
from omnidet.ops.corner_pool import corner_pool

Cfg = Mapping[str, Any]
BN: Cfg = {'type': 'BN', 'requires_grad': True}
POOLED = 128
"""Channels of a map that is pooled in one direction."""
WIDTH = 256
"""Channels inside a branch."""


@dataclass(frozen=True)
class CornerTesting(KeypointTesting):
    """A corner head's `test_cfg`.

    Attributes:
        corner_topk: how many corners of either side are paired.
        distance_threshold: how different two corners of one object may be.
        score_thr: accepted as configs carry it; the best pairs are taken, whatever their scores.
        The others: see `KeypointTesting`.
    """

    corner_topk: int = 100
    distance_threshold: float = 0.5
    score_thr: float = 0.05


class BiCornerPool(nn.Module):
    """Corner pooling in two directions, added to the map that is pooled (arXiv:1808.01244, figure 7).

    Parameters: direction1_conv, direction2_conv, aftpool_conv, conv1, conv2.

    Args:
        channels: of the map that comes in and of that which goes out.
        directions: the two.
        norm_cfg: the kind of norms.
    """

    def __init__(self, channels: int, directions: tuple[str, str], norm_cfg: Cfg = BN) -> None:
        super().__init__()
        self.directions = directions
        self.direction1_conv = ConvModule(channels, POOLED, 3, padding=1, norm_cfg=norm_cfg)
        self.direction2_conv = ConvModule(channels, POOLED, 3, padding=1, norm_cfg=norm_cfg)
        self.aftpool_conv = ConvModule(POOLED, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)
        self.conv1 = ConvModule(channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.conv2 = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        first, second = self.directions
        pooled = corner_pool(self.direction1_conv(x), first) + corner_pool(self.direction2_conv(x), second)
        return self.conv2(F.relu(self.aftpool_conv(pooled) + self.conv1(x)))


def pools(in_channels: int, levels: int, directions: tuple[str, str]) -> nn.ModuleList:
    """A `BiCornerPool` for each level."""
    return nn.ModuleList(BiCornerPool(in_channels, directions) for _ in range(levels))


def branches(in_channels: int, out_channels: int, levels: int) -> nn.ModuleList:
    """For each level a convolution of 3 x 3 and one of 1 x 1, which predicts."""
    return nn.ModuleList(nn.Sequential(ConvModule(in_channels, WIDTH, 3, padding=1),
                                       ConvModule(WIDTH, out_channels, 1, act_cfg=None)) for _ in range(levels))


def start_corner_head(head: nn.Module) -> None:
    """Initial values: Kaiming's, torch's own in the layers that predict, and scores of 0.1."""
    initialize(head, {'type': 'Kaiming', 'layer': 'Conv2d'})
    for name, levels in head.named_children():
        if isinstance(levels, nn.ModuleList) and isinstance(levels[0], nn.Sequential):
            for branch in levels:
                branch[-1].conv.reset_parameters()
                if name.endswith('_heat'):
                    nn.init.constant_(branch[-1].conv.bias, bias_for_probability(0.1))


def last_levels(where: str, feats: Sequence[Tensor], levels: int) -> zip[tuple[int, Tensor]]:
    """(level, feature map) of each of `feats`, which are the last of all.

    Raises:
        ConfigError: there are more of them than levels.
    """
    if len(feats) > levels:
        raise ConfigError(f'{where}: num_feat_levels is {levels}, but the backbone gives {len(feats)} maps; there is '
                          'one for each of its num_stacks')
    return zip(range(levels - len(feats), levels), feats, strict=True)
