"""Hourglass networks: down to a small map and up again, several times over (arXiv:1603.06937)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, initialize
from omnidet.nn.resnet_layers import BasicBlock, make_res_layer
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]


class HourglassModule(nn.Module):
    """One hourglass: a way at full size, and one through half the size, which is an hourglass again, added.

    Parameters: up1, low1, low2 (a smaller hourglass, or the blocks of the innermost map), low3.

    Args:
        depth: how often the map is halved.
        stage_channels, stage_blocks: channels and residual blocks of each size, this one first; `depth` + 1 at least.
        norm_cfg: the kind of norms.
    """

    def __init__(self, depth: int, stage_channels: Sequence[int], stage_blocks: Sequence[int], norm_cfg: Cfg) -> None:
        super().__init__()
        (here, below), (blocks, blocks_below) = stage_channels[:2], stage_blocks[:2]
        self.up1 = make_res_layer(BasicBlock, here, here, blocks, norm_cfg=norm_cfg)
        self.low1 = make_res_layer(BasicBlock, here, below, blocks, stride=2, norm_cfg=norm_cfg)
        self.low2: nn.Module
        if depth > 1:
            self.low2 = HourglassModule(depth - 1, stage_channels[1:], stage_blocks[1:], norm_cfg)
        else:
            self.low2 = make_res_layer(BasicBlock, below, below, blocks_below, norm_cfg=norm_cfg)
        self.low3 = make_res_layer(BasicBlock, below, here, blocks, norm_cfg=norm_cfg, downsample_first=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, stage_channels[0], H, W) -> the same shape; an odd side is met again on the way up."""
        kept = self.up1(x)
        low = self.low3(self.low2(self.low1(x)))
        return kept + F.interpolate(low, size=kept.shape[-2:], mode='nearest')


@BACKBONES.register
class HourglassNet(nn.Module):
    """A stem that quarters the image's sides, and hourglasses one after another (as in CornerNet, arXiv:1808.01244).

    Parameters: stem, hourglass_modules, out_convs, and between two hourglasses inters, conv1x1s and remap_convs.
    Hourglass-104 is the default.

    Args:
        downsample_times: how often an hourglass halves its map.
        num_stacks: how many hourglasses there are; each gives a map.
        stage_channels, stage_blocks: channels and residual blocks at each size of an hourglass, the full one first.
        feat_channels: channels of the maps that come out.
        norm_cfg: the kind of norms.
        pretrained: where the weights lie, as older configs say it; see `init_cfg`.
        init_cfg: initial values, or `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked
            for; where None, convolutions begin as torch draws them.

    Raises:
        ConfigError: fewer sizes than the halvings need, or no hourglass.
    """

    def __init__(self, downsample_times: int = 5, num_stacks: int = 2,
                 stage_channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
                 stage_blocks: Sequence[int] = (2, 2, 2, 2, 2, 4), feat_channels: int = 256,
                 norm_cfg: Cfg = {'type': 'BN', 'requires_grad': True}, pretrained: str | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if num_stacks < 1 or downsample_times < 1:
            raise ConfigError(f'HourglassNet: num_stacks is {num_stacks} and downsample_times {downsample_times}; both '
                              'must be 1 at least')
        if len(stage_channels) != len(stage_blocks) or len(stage_channels) <= downsample_times:
            raise ConfigError(f'HourglassNet: {downsample_times} halvings need {downsample_times + 1} stage_channels '
                              f'and as many stage_blocks; found {len(stage_channels)} and {len(stage_blocks)}')
        width, between = stage_channels[0], range(num_stacks - 1)
        self.stem = nn.Sequential(
            ConvModule(3, width // 2, 7, stride=2, padding=3, norm_cfg=norm_cfg),
            make_res_layer(BasicBlock, width // 2, width, 1, stride=2, norm_cfg=norm_cfg))
        self.hourglass_modules = nn.ModuleList(
            HourglassModule(downsample_times, stage_channels, stage_blocks, norm_cfg) for _ in range(num_stacks))
        self.out_convs = nn.ModuleList(
            ConvModule(width, feat_channels, 3, padding=1, norm_cfg=norm_cfg) for _ in range(num_stacks))
        self.inters = nn.ModuleList(BasicBlock(width, width, norm_cfg=norm_cfg) for _ in between)
        self.conv1x1s = nn.ModuleList(ConvModule(width, width, 1, norm_cfg=norm_cfg, act_cfg=None) for _ in between)
        self.remap_convs = nn.ModuleList(
            ConvModule(feat_channels, width, 1, norm_cfg=norm_cfg, act_cfg=None) for _ in between)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> for each hourglass (B, feat_channels, H / 4, W / 4), rounded up; the last one is the best."""
        x, out = self.stem(x), []
        for i, (hourglass, out_conv) in enumerate(zip(self.hourglass_modules, self.out_convs, strict=True)):
            out.append(out_conv(hourglass(x)))
            if i < len(self.inters):
                x = self.inters[i](F.relu(self.conv1x1s[i](x) + self.remap_convs[i](out[-1])))
        return tuple(out)
