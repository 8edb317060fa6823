"""ChannelMapper: one convolution for each level, as transformers take their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, initialize
from omnidet.nn.pyramid import check_levels
from omnidet.registry import NECKS

Cfg = Mapping[str, Any]


@NECKS.register
class ChannelMapper(nn.Module):
    """Bring each level to the same number of channels, without mixing levels.

    Parameters: convs, and extra_convs where more levels come out than in.

    Args:
        in_channels: channels of each level, finest first.
        out_channels: channels of every level that comes out.
        kernel_size: window of the convolutions; those of extra levels have 3 and stride 2.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        bias: True, False, or 'auto': a bias where there is no norm.
        num_outs: how many levels come out; as many as come in by default. The first extra one is computed from the
            backbone's last map, the others from the one before.
        init_cfg: initial values; Xavier's uniform ones by default.

    Raises:
        ConfigError: fewer levels out than in.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, kernel_size: int = 3,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = {'type': 'ReLU'},
                 bias: bool | str = 'auto', num_outs: int | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.in_channels = list(in_channels)
        extra = 0 if num_outs is None else num_outs - len(self.in_channels)
        if extra < 0:
            raise ConfigError(f'ChannelMapper: num_outs is {num_outs}, but in_channels names {len(self.in_channels)} '
                              f'levels: {self.in_channels}; allowed are as many or more')
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg, 'bias': bias}
        self.convs = nn.ModuleList(ConvModule(c, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **cfgs)
                                   for c in self.in_channels)
        self.extra_convs = nn.ModuleList(
            ConvModule(out_channels if i else self.in_channels[-1], out_channels, 3, stride=2, padding=1, **cfgs)
            for i in range(extra))
        initialize(self, init_cfg, default={'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'})

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """L maps (B, in_channels[l], H_l, W_l), finest first -> num_outs maps (B, out_channels, H, W)."""
        check_levels('ChannelMapper', feats, self.in_channels)
        outs = [conv(x) for conv, x in zip(self.convs, feats, strict=True)]
        for i, conv in enumerate(self.extra_convs):
            outs.append(conv(outs[-1] if i else feats[-1]))
        return tuple(outs)
