"""CTResNetNeck: the way back up from a ResNet's last map, as CenterNet takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, initialize
from omnidet.registry import NECKS

Cfg = Mapping[str, Any]


@NECKS.register
class CTResNetNeck(nn.Module):
    """Convolutions and transposed ones in turn, each pair of which doubles the map (arXiv:1904.07850, section 5).

    Parameters: deconv_layers.

    Args:
        in_channels: channels of the last map.
        num_deconv_filters: channels of each pair.
        num_deconv_kernels: windows of the transposed convolutions; 4 doubles the map exactly.
        use_dcn: make the convolutions deformable.
        init_cfg: initial values, after those of `bilinear_` for the transposed convolutions.

    Raises:
        ConfigError: the two lists differ in length.
    """

    def __init__(self, in_channels: int, num_deconv_filters: Sequence[int], num_deconv_kernels: Sequence[int],
                 use_dcn: bool = True, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if len(num_deconv_filters) != len(num_deconv_kernels):
            raise ConfigError(f'CTResNetNeck: num_deconv_filters {list(num_deconv_filters)} and num_deconv_kernels '
                              f'{list(num_deconv_kernels)} must be as many')
        layers, norm_cfg = [], {'type': 'BN'}
        for width, kernel in zip(num_deconv_filters, num_deconv_kernels, strict=True):
            layers.append(ConvModule(in_channels, width, 3, padding=1, norm_cfg=norm_cfg,
                                     conv_cfg={'type': 'DCNv2'} if use_dcn else None))
            layers.append(ConvModule(width, width, kernel, stride=2, padding=1, norm_cfg=norm_cfg,
                                     conv_cfg={'type': 'deconv'}))
            bilinear_(layers[-1].conv)
            in_channels = width
        self.deconv_layers = nn.Sequential(*layers)
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor]:
        """L maps, the last one (B, C, H, W) -> one map (B, filters, H * 2^n, W * 2^n) for n pairs."""
        return (self.deconv_layers(feats[-1]),)


@torch.no_grad()
def bilinear_(conv: nn.Module) -> None:
    """Let the first kernel of each channel that a transposed convolution reads enlarge bilinearly, as published."""
    weight: Tensor = conv.weight    # type: ignore[assignment]
    n = weight.shape[2]
    f = (n + 1) // 2
    line = 1 - (torch.arange(n, device=weight.device) / f - (2 * f - 1 - f % 2) / (2 * f)).abs()
    weight[:, 0] = line[:, None] * line
