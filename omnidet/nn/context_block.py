"""Global context for every pixel (GCNet, arXiv:1904.11492)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.registry import PLUGINS


@PLUGINS.register
class ContextBlock(nn.Module):
    """One context vector of the whole map, transformed, and added to each pixel (figure 4d).

    Parameters: conv_mask; channel_add_conv, channel_mul_conv. It begins as the identity where it adds.

    Args:
        in_channels: of the map.
        ratio: width of the transform's middle, as a factor of `in_channels`.
        pooling_type: the context is the mean over pixels ('avg'), or weighed by a softmax of `conv_mask` ('att').
        fusion_types: how it joins the map: 'channel_add', 'channel_mul' (a sigmoid of it is a factor), or both.
    """

    plugin_name = 'context_block'

    def __init__(self, in_channels: int, ratio: float, pooling_type: str = 'att',
                 fusion_types: Sequence[str] = ('channel_add',)) -> None:
        super().__init__()
        if pooling_type not in ('avg', 'att'):
            raise ConfigError(f"ContextBlock: pooling_type is {pooling_type!r}; allowed are 'avg' and 'att'")
        if isinstance(fusion_types, str) or not fusion_types or not {*fusion_types} <= {'channel_add', 'channel_mul'}:
            raise ConfigError(f"ContextBlock: fusion_types is {fusion_types!r}; it is a list of 'channel_add', "
                              "'channel_mul' or both")
        width = int(in_channels * ratio)
        if width < 1:
            raise ConfigError(f'ContextBlock: ratio {ratio} of {in_channels} channels leaves none')
        self.conv_mask = nn.Conv2d(in_channels, 1, 1) if pooling_type == 'att' else None
        self.channel_add_conv = _transform(in_channels, width) if 'channel_add' in fusion_types else None
        self.channel_mul_conv = _transform(in_channels, width) if 'channel_mul' in fusion_types else None
        self.starts_at_zero = tuple(f'{name}.3' for name in ('channel_add_conv', 'channel_mul_conv')
                                    if getattr(self, name) is not None)
        if self.conv_mask is not None:
            nn.init.kaiming_normal_(self.conv_mask.weight, nonlinearity='relu')
            nn.init.zeros_(self.conv_mask.bias)    # type: ignore[arg-type]
        for name in self.starts_at_zero:
            for p in self.get_submodule(name).parameters():
                nn.init.zeros_(p)

    def _context(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        if self.conv_mask is None:
            return x.mean((2, 3), keepdim=True)
        weights = self.conv_mask(x).flatten(2).softmax(-1)    # (B, 1, HW)
        return torch.matmul(x.flatten(2), weights.transpose(1, 2))[..., None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), also returned."""
        context = self._context(x)
        if self.channel_mul_conv is not None:
            x = x * torch.sigmoid(self.channel_mul_conv(context))
        if self.channel_add_conv is not None:
            x = x + self.channel_add_conv(context)
        return x


def _transform(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1), nn.LayerNorm([width, 1, 1]), nn.ReLU(inplace=True),
                         nn.Conv2d(width, channels, 1))
