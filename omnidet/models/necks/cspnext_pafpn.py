"""CSPNeXt-PAFPN, the neck of RTMDet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omnidet.nn import ConvModule, DepthwiseSeparableConvModule
from omnidet.nn.csp import CSPNeXtBlock
from omnidet.nn.csp_pyramid import CSPPyramid
from omnidet.registry import NECKS

Cfg = Mapping[str, Any]


@NECKS.register
class CSPNeXtPAFPN(CSPPyramid):
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
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        super().__init__(CSPNeXtBlock, in_channels, num_csp_blocks, use_depthwise, expand_ratio, upsample_cfg,
                         lambda channels: conv(channels, out_channels, 3, padding=1, **cfgs), cfgs)
