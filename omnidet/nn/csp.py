"""Cross-stage-partial layers (CSPNet, arXiv:1911.11929), of the Darknet kind and of the CSPNeXt kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.nn.conv_module import ConvModule, DepthwiseSeparableConvModule

Cfg = Mapping[str, Any]


class ChannelAttention(nn.Module):
    """Scale each channel by a gate computed from all channels' means. Parameters: fc."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class CSPNeXtBlock(nn.Module):
    """A 3 x 3 convolution, then a 5 x 5 depthwise-separable one, and the input added (arXiv:2212.07784, section 3.1).

    Parameters: conv1, conv2.
    """

    def __init__(self, channels: int, add_identity: bool = True, use_depthwise: bool = False, kernel_size: int = 5,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = None) -> None:
        super().__init__()
        cfgs = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        self.conv1 = conv(channels, channels, 3, padding=1, **cfgs)
        self.conv2 = DepthwiseSeparableConvModule(channels, channels, kernel_size, padding=kernel_size // 2, **cfgs)
        self.add_identity = add_identity

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class DarknetBlock(nn.Module):
    """A 1 x 1 convolution, then a 3 x 3 one, and the input added (YOLOv3, arXiv:1804.02767).

    Parameters: conv1, conv2.
    """

    def __init__(self, channels: int, add_identity: bool = True, use_depthwise: bool = False,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = None) -> None:
        super().__init__()
        cfgs = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        self.conv1 = ConvModule(channels, channels, 1, **cfgs)
        self.conv2 = conv(channels, channels, 3, padding=1, **cfgs)
        self.add_identity = add_identity

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class CSPLayer(nn.Module):
    """Half of the channels pass through the blocks, half pass by; both are joined.

    Parameters: main_conv, short_conv, final_conv, blocks, attention.

    Args:
        block: `DarknetBlock` or `CSPNeXtBlock`.
        in_channels, out_channels: of the layer.
        expand_ratio: the width of each half, as a factor of `out_channels`.
        num_blocks: how many blocks follow each other.
        add_identity: whether a block adds its input.
        use_depthwise: make the blocks' 3 x 3 convolution depthwise-separable.
        channel_attention: gate the joined channels.
    """

    def __init__(self, block: Callable[..., nn.Module], in_channels: int, out_channels: int, expand_ratio: float = 0.5,
                 num_blocks: int = 1, add_identity: bool = True, use_depthwise: bool = False,
                 channel_attention: bool = False, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None,
                 act_cfg: Cfg | None = None) -> None:
        super().__init__()
        cfgs = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        width = int(out_channels * expand_ratio)
        self.main_conv = ConvModule(in_channels, width, 1, **cfgs)
        self.short_conv = ConvModule(in_channels, width, 1, **cfgs)
        self.final_conv = ConvModule(2 * width, out_channels, 1, **cfgs)
        self.blocks = nn.Sequential(*(block(width, add_identity, use_depthwise, **cfgs) for _ in range(num_blocks)))
        self.attention = ChannelAttention(2 * width) if channel_attention else None

    def forward(self, x: Tensor) -> Tensor:
        out = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        return self.final_conv(out if self.attention is None else self.attention(out))


class SPPBottleneck(nn.Module):
    """Max pooling with several windows side by side (SPP, arXiv:1406.4729). Parameters: conv1, conv2."""

    def __init__(self, in_channels: int, out_channels: int, kernel_sizes: tuple[int, ...] = (5, 9, 13),
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = None) -> None:
        super().__init__()
        cfgs = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        self.conv1 = ConvModule(in_channels, in_channels // 2, 1, **cfgs)
        self.poolings = nn.ModuleList(nn.MaxPool2d(k, stride=1, padding=k // 2) for k in kernel_sizes)
        self.conv2 = ConvModule(in_channels // 2 * (len(kernel_sizes) + 1), out_channels, 1, **cfgs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.poolings)], 1))
