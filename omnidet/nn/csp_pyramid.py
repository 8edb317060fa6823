"""What pyramids of cross-stage-partial layers have in common: a way down and a way up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.conv_module import ConvModule, DepthwiseSeparableConvModule
from omnidet.nn.csp import CSPLayer
from omnidet.nn.init import init_conv_

Cfg = Mapping[str, Any]


class CSPPyramid(nn.Module):
    """A path-aggregation pyramid (PANet, arXiv:1803.01534); every convolution starts as torch draws it.

    Parameters: reduce_layers, top_down_blocks, downsamples, bottom_up_blocks, out_convs.

    Args:
        block: the class of the layers' blocks.
        in_channels: channels of each level, finest first.
        num_csp_blocks: blocks in each layer.
        use_depthwise: make the 3 x 3 convolutions depthwise-separable.
        expand_ratio: width of a layer's two halves.
        upsample_cfg: how the coarser level is enlarged: arguments of `torch.nn.functional.interpolate`.
        out_conv: makes the last convolution of a level from its channels.
        cfgs: `conv_cfg`, `norm_cfg` and `act_cfg` of all layers.
    """

    def __init__(self, block: Callable[..., nn.Module], in_channels: Sequence[int], num_csp_blocks: int,
                 use_depthwise: bool, expand_ratio: float, upsample_cfg: Cfg, out_conv: Callable[[int], nn.Module],
                 cfgs: Cfg) -> None:
        super().__init__()
        self.in_channels, self.upsample_cfg = list(in_channels), dict(upsample_cfg)
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        pairs = list(zip(self.in_channels[:-1], self.in_channels[1:], strict=True))    # (finer, coarser), finest first

        def layer(c_in: int, c_out: int) -> nn.Module:
            return CSPLayer(block, c_in, c_out, expand_ratio, num_csp_blocks, add_identity=False,
                            use_depthwise=use_depthwise, **cfgs)

        self.reduce_layers = nn.ModuleList(ConvModule(coarse, fine, 1, **cfgs) for fine, coarse in reversed(pairs))
        self.top_down_blocks = nn.ModuleList(layer(2 * fine, fine) for fine, _ in reversed(pairs))
        self.downsamples = nn.ModuleList(conv(fine, fine, 3, stride=2, padding=1, **cfgs) for fine, _ in pairs)
        self.bottom_up_blocks = nn.ModuleList(layer(2 * fine, coarse) for fine, coarse in pairs)
        self.out_convs = nn.ModuleList(out_conv(c) for c in self.in_channels)
        init_conv_(self)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """L maps (B, in_channels[l], H_l, W_l), finest first -> L maps (B, out_channels, H_l, W_l)."""
        if len(feats) != len(self.in_channels):
            raise ConfigError(f'{type(self).__name__}: the backbone gives {len(feats)} levels, in_channels names '
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
