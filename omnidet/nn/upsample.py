"""Layers that enlarge a feature map, by the names that `upsample_cfg` has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.nn.initialize import initialize
from omnidet.registry import UPSAMPLE_LAYERS


def build_upsample(cfg: Mapping[str, Any], in_channels: int, out_channels: int) -> nn.Module:
    """The layer that `upsample_cfg` names.

    Args:
        cfg: `dict(type='nearest' | 'bilinear' | 'deconv' | 'pixel_shuffle', scale_factor=2, ...)`, where the other
            keys are arguments of the layer.
        in_channels: channels that come in.
        out_channels: channels that go out; the interpolating kinds keep those that came in.

    Returns:
        A module (B, in_channels, H, W) -> (B, out_channels or in_channels, H * scale_factor, W * scale_factor).

    Raises:
        ConfigError: an unknown type or argument.
    """
    return UPSAMPLE_LAYERS.build(cfg, in_channels=in_channels, out_channels=out_channels)


def _nearest(in_channels: int, out_channels: int, scale_factor: float = 2, size: tuple[int, int] | None = None
             ) -> nn.Module:
    return nn.Upsample(size, None if size else scale_factor, mode='nearest')


def _bilinear(in_channels: int, out_channels: int, scale_factor: float = 2, size: tuple[int, int] | None = None,
              align_corners: bool = False) -> nn.Module:
    return nn.Upsample(size, None if size else scale_factor, mode='bilinear', align_corners=align_corners)


def _deconv(in_channels: int, out_channels: int, scale_factor: int = 2, kernel_size: int | None = None,
            stride: int | None = None, padding: int = 0, output_padding: int = 0, groups: int = 1, bias: bool = True
            ) -> nn.Module:
    """A transposed convolution whose windows tile the output, unless they are given. Parameters: weight, bias."""
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size or scale_factor, stride or scale_factor, padding,
                              output_padding, groups, bias)


class PixelShuffle(nn.Module):
    """A convolution to `scale_factor` squared as many channels, which become pixels (arXiv:1609.05158).

    Parameters: upsample_conv.
    """

    def __init__(self, in_channels: int, out_channels: int, scale_factor: int = 2, upsample_kernel: int = 3) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        self.upsample_conv = nn.Conv2d(in_channels, out_channels * scale_factor ** 2, upsample_kernel,
                                       padding=(upsample_kernel - 1) // 2)
        initialize(self, {'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'})

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.upsample_conv(x), self.scale_factor)


for _name, _layer in {'nearest': _nearest, 'bilinear': _bilinear, 'deconv': _deconv,
                      'pixel_shuffle': PixelShuffle}.items():
    UPSAMPLE_LAYERS.register(_layer, _name)
