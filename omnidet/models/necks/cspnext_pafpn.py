"""CSPNeXt-PAFPN, the neck of RTMDet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, DepthwiseSeparableConvModule, init_conv_
from omnidet.nn.csp import CSPNeXtLayer
from omnidet.registry import NECKS

Cfg = Mapping[str, Any]


@NECKS.register
class CSPNeXtPAFPN(nn.Module):
    """A path-aggregation pyramid (PANet, arXiv:1803.01534) of CSPNeXt layers (arXiv:2212.07784).

    Parameters: reduce_layers, top_down_blocks, downsamples, bottom_up_blocks, out_convs.

    Args:
        in_channels: channels of each level, finest first.
        out_channels: channels of every level that comes out.
        num_csp_blocks: blocks in each layer.
        use_depthwise: make the 3 x 3 convolutions depthwise-separable.
        expand_ratio: width of a layer's two halves.
        upsample_cfg: how the coarser level is enlarged: arguments of `torch.nn.functional.interpolate`.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        init_cfg: accepted as configs carry it; every convolution starts as torch draws it.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_csp_blocks: int = 3,
                 use_depthwise: bool = False, expand_ratio: float = 0.5,
                 upsample_cfg: Cfg = {'scale_factor': 2, 'mode': 'nearest'},
                 conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg = {'type': 'BN', 'momentum': 0.03, 'eps': 0.001},
                 act_cfg: Cfg = {'type': 'Swish'},
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.in_channels, self.upsample_cfg = list(in_channels), dict(upsample_cfg)
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        pairs = list(zip(self.in_channels[:-1], self.in_channels[1:], strict=True))    # (finer, coarser), finest first

        def layer(c_in: int, c_out: int) -> nn.Module:
            return CSPNeXtLayer(c_in, c_out, expand_ratio, num_csp_blocks, add_identity=False,
                                use_depthwise=use_depthwise, **cfgs)

        self.reduce_layers = nn.ModuleList(ConvModule(coarse, fine, 1, **cfgs) for fine, coarse in reversed(pairs))
        self.top_down_blocks = nn.ModuleList(layer(2 * fine, fine) for fine, _ in reversed(pairs))
        self.downsamples = nn.ModuleList(conv(fine, fine, 3, stride=2, padding=1, **cfgs) for fine, _ in pairs)
        self.bottom_up_blocks = nn.ModuleList(layer(2 * fine, coarse) for fine, coarse in pairs)
        self.out_convs = nn.ModuleList(conv(c, out_channels, 3, padding=1, **cfgs) for c in self.in_channels)
        init_conv_(self)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """L maps (B, in_channels[l], H_l, W_l), finest first -> L maps (B, out_channels, H_l, W_l)."""
        if len(feats) != len(self.in_channels):
            raise ConfigError(f'CSPNeXtPAFPN: the backbone gives {len(feats)} levels, in_channels names '
                              f'{len(self.in_channels)}: {self.in_channels}')
        down = [feats[-1]]    # coarsest first
        for i, feat in enumerate(reversed(feats[:-1])):
            down[-1] = self.reduce_layers[i](down[-1])
            up = F.interpolate(down[-1], **self.upsample_cfg)
            down.append(self.top_down_blocks[i](torch.cat([up, feat], 1)))
        out = [down.pop()]    # finest first
        for i, feat in enumerate(reversed(down)):
            out.append(self.bottom_up_blocks[i](torch.cat([self.downsamples[i](out[-1]), feat], 1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, out, strict=True))
