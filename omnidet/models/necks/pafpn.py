"""PAFPN, the path-aggregation pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.nn import ConvModule, initialize
from omnidet.nn.pyramid import add_extra_levels, check_levels, extra_source, pyramid_convs, top_down, used_levels
from omnidet.registry import NECKS

Cfg = Mapping[str, Any]


@NECKS.register
class PAFPN(nn.Module):
    """Path-aggregation network (PANet, arXiv:1803.01534, section 3.1): an FPN, and a second way from fine to coarse.

    Parameters: lateral_convs, fpn_convs, downsample_convs, pafpn_convs; all are lists of `ConvModule`s.

    Args:
        in_channels: channels of each level of the backbone, finest first.
        out_channels: channels of every level that comes out.
        num_outs: how many levels come out.
        start_level, end_level: the backbone's levels to build on; -1 is the last.
        add_extra_convs: how levels beyond the backbone's are made: False takes every second pixel, and 'on_input',
            'on_lateral', 'on_output' convolve, the first time the backbone's last map, the last lateral, or the last
            output. True is 'on_input'.
        relu_before_extra_convs: apply a ReLU between these convolutions.
        no_norm_on_lateral: leave the norm out of the lateral convolutions.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        init_cfg: initial values; Xavier's uniform ones by default.

    Raises:
        ConfigError: levels or their number do not fit each other.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_outs: int, start_level: int = 0,
                 end_level: int = -1, add_extra_convs: bool | str = False, relu_before_extra_convs: bool = False,
                 no_norm_on_lateral: bool = False, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None,
                 act_cfg: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.in_channels, self.num_outs = list(in_channels), num_outs
        self.relu_before_extra_convs = relu_before_extra_convs
        self.levels = used_levels('PAFPN', in_channels, num_outs, start_level, end_level)
        self.source = extra_source('PAFPN', add_extra_convs)
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}

        def convs(stride: int) -> nn.ModuleList:
            return nn.ModuleList(ConvModule(out_channels, out_channels, 3, stride, 1, inplace=False, **cfgs)
                                 for _ in self.levels[1:])

        self.lateral_convs, self.fpn_convs = pyramid_convs(in_channels, out_channels, self.levels, num_outs,
                                                           self.source, no_norm_on_lateral, cfgs)
        self.downsample_convs, self.pafpn_convs = convs(stride=2), convs(stride=1)
        initialize(self, init_cfg, default={'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'})

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """L maps (B, in_channels[l], H_l, W_l), finest first -> num_outs maps (B, out_channels, H, W)."""
        check_levels('PAFPN', feats, self.in_channels)
        used = [feats[i] for i in self.levels]
        laterals = top_down([conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)])
        path = [conv(x) for conv, x in zip(self.fpn_convs[:len(used)], laterals, strict=True)]
        for i, down in enumerate(self.downsample_convs):
            path[i + 1] = path[i + 1] + down(path[i])
        outs = [path[0], *(conv(x) for conv, x in zip(self.pafpn_convs, path[1:], strict=True))]
        sources = {None: None, 'on_input': used[-1], 'on_lateral': laterals[-1], 'on_output': outs[-1]}
        return add_extra_levels(outs, sources[self.source], self.fpn_convs[len(used):], self.num_outs,
                                self.relu_before_extra_convs)
