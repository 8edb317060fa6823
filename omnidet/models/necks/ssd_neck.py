"""SSD's neck: ever smaller maps after the backbone's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, DepthwiseSeparableConvModule, initialize
from omnidet.nn.pyramid import check_levels
from omnidet.registry import NECKS

Cfg = Mapping[str, Any]

DEFAULT_INIT: list[Cfg] = [{'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'},
                           {'type': 'Constant', 'val': 1, 'layer': 'BatchNorm2d'}]


class L2Norm(nn.Module):
    """Each cell's vector at a learned length for each channel (ParseNet, arXiv:1506.04579, section 3.3).

    Parameters: weight (C,).

    Args:
        channels: C.
        scale: the lengths to begin with.
        eps: keeps a vector of zeros from dividing by zero.
    """

    def __init__(self, channels: int, scale: float = 20.0, eps: float = 1e-10) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and dtype; in float32 within."""
        values = x.float()
        # The root of 0 has no gradient, so a vector of zeros is kept from it.
        squares = values.square().sum(1, keepdim=True)
        length = torch.where(squares > 0, squares, 1).sqrt() + self.eps
        return (self.weight.float()[:, None, None] * values / length).to(x.dtype)


@NECKS.register
class SSDNeck(nn.Module):
    """SSD's extra feature layers (arXiv:1512.02325, figure 2).

    Parameters: l2_norm, and extra_layers: pairs of a 1 x 1 and a 3 x 3 convolution.

    Args:
        in_channels: channels of each level of the backbone, finest first.
        out_channels: channels of every level that comes out; the first are the backbone's.
        level_strides, level_paddings: of the 3 x 3 convolution of each extra level.
        l2_norm_scale: the length of the finest level's vectors to begin with; None leaves the level as it is.
        last_kernel_size: window of the last level's convolution.
        use_depthwise: make the 3 x 3 convolutions depthwise-separable (SSDLite).
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        init_cfg: initial values; Xavier's uniform ones by default.

    Raises:
        ConfigError: the lists do not fit each other.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int], level_strides: Sequence[int],
                 level_paddings: Sequence[int], l2_norm_scale: float | None = 20.0, last_kernel_size: int = 3,
                 use_depthwise: bool = False, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None,
                 act_cfg: Cfg | None = {'type': 'ReLU'}, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.in_channels = list(in_channels)
        known, extra = len(self.in_channels), len(out_channels) - len(self.in_channels)
        if extra < 0 or list(out_channels[:known]) != self.in_channels:
            raise ConfigError(f'SSDNeck: out_channels {list(out_channels)} must begin with in_channels '
                              f'{self.in_channels}')
        if not extra == len(level_strides) == len(level_paddings):
            raise ConfigError(f'SSDNeck: {extra} extra levels need as many level_strides and level_paddings, not '
                              f'{list(level_strides)} and {list(level_paddings)}')
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        self.l2_norm = L2Norm(self.in_channels[0], l2_norm_scale) if l2_norm_scale else None
        self.extra_layers = nn.ModuleList()
        for i, (stride, padding) in enumerate(zip(level_strides, level_paddings, strict=True)):
            c_in, c_out = out_channels[known + i - 1], out_channels[known + i]
            kernel = last_kernel_size if i == extra - 1 else 3
            self.extra_layers.append(nn.Sequential(ConvModule(c_in, c_out // 2, 1, **cfgs),
                                                   conv(c_out // 2, c_out, kernel, stride, padding, **cfgs)))
        initialize(self, init_cfg, default=DEFAULT_INIT)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """L maps (B, in_channels[l], H_l, W_l), finest first -> one (B, C, H, W) for each of `out_channels`."""
        check_levels('SSDNeck', feats, self.in_channels)
        outs = list(feats)
        if self.l2_norm is not None:
            outs[0] = self.l2_norm(outs[0])
        for layer in self.extra_layers:
            outs.append(layer(outs[-1]))
        return tuple(outs)
