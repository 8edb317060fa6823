"""Convolution, norm and activation in one module, with the parameter names of MMDetection's checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.fixed_norm import conv_norm
from omnidet.nn.layers import build_activation, build_conv, build_norm
from omnidet.registry import PLUGINS

Cfg = Mapping[str, Any]


@PLUGINS.register
class ConvModule(nn.Module):
    """A convolution with its norm and activation, in the order that `order` says.

    Parameters: conv, and bn, gn, ln or in by the kind of the norm.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode: of the convolution.
        bias: True, False, or 'auto': a bias where there is no norm.
        conv_cfg: the kind of convolution; a plain one by default.
        norm_cfg: the kind of norm; none by default.
        act_cfg: the kind of activation; none where None.
        inplace: let the activation overwrite its input.
        with_spectral_norm: divide the kernel by its largest singular value (arXiv:1802.05957).
        order: a permutation of 'conv', 'norm', 'act'.
    """

    plugin_name = 'conv_block'

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, bias: bool | str = 'auto',
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = {'type': 'ReLU'},
                 inplace: bool = True, with_spectral_norm: bool = False, padding_mode: str = 'zeros',
                 order: tuple[str, str, str] = ('conv', 'norm', 'act')) -> None:
        super().__init__()
        if len(order) != 3 or set(order) != {'conv', 'norm', 'act'}:
            raise ConfigError(f"ConvModule: order must hold 'conv', 'norm' and 'act', not {order!r}")
        self.order = tuple(order)
        self.norm_follows = ('conv', 'norm') in itertools.pairwise(order)
        options = {} if padding_mode == 'zeros' else {'padding_mode': padding_mode}    # most kinds pad with zeros alone
        self.conv = build_conv(conv_cfg, in_channels, out_channels, kernel_size, stride=stride, padding=padding,
                               dilation=dilation, groups=groups, bias=norm_cfg is None if bias == 'auto' else bias,
                               **options)
        if with_spectral_norm:
            self.conv = nn.utils.spectral_norm(self.conv)
        self.norm_name: str | None = None
        if norm_cfg is not None:
            channels = out_channels if order.index('norm') > order.index('conv') else in_channels
            self.norm_name, norm = build_norm(norm_cfg, channels)
            self.add_module(self.norm_name, norm)
        self.activate = None if act_cfg is None else build_activation(act_cfg, inplace)

    def forward(self, x: Tensor) -> Tensor:
        norm = None if self.norm_name is None else getattr(self, self.norm_name)
        together = self.norm_follows and norm is not None
        for step in self.order:
            if step == 'conv':
                x = conv_norm(self.conv, norm, x) if together else self.conv(x)
            elif step == 'norm' and norm is not None and not together:
                x = norm(x)
            elif step == 'act' and self.activate is not None:
                x = self.activate(x)
        return x


class DepthwiseSeparableConvModule(nn.Module):
    """A convolution of each channel by itself, then one of 1 x 1 over the channels (arXiv:1704.04861).

    Parameters: depthwise_conv, pointwise_conv; both are `ConvModule`s with the same norm and activation.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0,
                 dilation: int = 1, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None,
                 act_cfg: Cfg | None = {'type': 'ReLU'}) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(in_channels, in_channels, kernel_size, stride, padding, dilation,
                                         groups=in_channels, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg,
                                         act_cfg=act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))
