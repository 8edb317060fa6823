"""FPN, the feature pyramid that most detectors stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.nn import initialize
from omnidet.nn.pyramid import (
    add_extra_levels,
    check_interpolation,
    check_levels,
    extra_source,
    pyramid_convs,
    top_down,
    used_levels,
)
from omnidet.registry import NECKS

Cfg = Mapping[str, Any]


@NECKS.register
class FPN(nn.Module):
    """Feature pyramid network (arXiv:1612.03144): the semantics of coarse levels at the resolution of fine ones.

    Parameters: lateral_convs, fpn_convs; both are lists of `ConvModule`s.

    Args:
        in_channels: channels of each level of the backbone, finest first.
        out_channels: channels of every level that comes out.
        num_outs: how many levels come out.
        start_level, end_level: the backbone's levels to build on; -1 is the last. Where it ends before the last, no
            extra levels are possible.
        add_extra_convs: how levels beyond the backbone's are made: False takes every second pixel, and 'on_input',
            'on_lateral', 'on_output' convolve, the first time the backbone's last map, the last lateral, or the last
            output. True is 'on_input'.
        relu_before_extra_convs: apply a ReLU between these convolutions.
        no_norm_on_lateral: leave the norm out of the lateral convolutions.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        upsample_cfg: how a coarser level is enlarged: arguments of `torch.nn.functional.interpolate`.
        init_cfg: initial values; Xavier's uniform ones by default.

    Raises:
        ConfigError: levels or their number do not fit each other.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_outs: int, start_level: int = 0,
                 end_level: int = -1, add_extra_convs: bool | str = False, relu_before_extra_convs: bool = False,
                 no_norm_on_lateral: bool = False, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None,
                 act_cfg: Cfg | None = None, upsample_cfg: Cfg = {'mode': 'nearest'},
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.in_channels, self.num_outs, self.upsample_cfg = list(in_channels), num_outs, dict(upsample_cfg)
        self.relu_before_extra_convs = relu_before_extra_convs
        self.levels = used_levels('FPN', in_channels, num_outs, start_level, end_level)
        check_interpolation('FPN', upsample_cfg)
        self.source = extra_source('FPN', add_extra_convs)
        cfgs = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        self.lateral_convs, self.fpn_convs = pyramid_convs(in_channels, out_channels, self.levels, num_outs,
                                                           self.source, no_norm_on_lateral, cfgs)
        initialize(self, init_cfg, default={'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'})

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """L maps (B, in_channels[l], H_l, W_l), finest first -> num_outs maps (B, out_channels, H, W)."""
        check_levels('FPN', feats, self.in_channels)
        used = [feats[i] for i in self.levels]
        laterals = top_down([conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)], self.upsample_cfg)
        outs = [conv(x) for conv, x in zip(self.fpn_convs[:len(used)], laterals, strict=True)]
        sources = {None: None, 'on_input': used[-1], 'on_lateral': laterals[-1], 'on_output': outs[-1]}
        return add_extra_levels(outs, sources[self.source], self.fpn_convs[len(used):], self.num_outs,
                                self.relu_before_extra_convs)
