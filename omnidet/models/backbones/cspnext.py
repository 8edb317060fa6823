"""CSPNeXt, the backbone of RTMDet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from omnidet.nn import ConvModule
from omnidet.nn.csp import CSPNeXtBlock
from omnidet.nn.csp_trunk import CSPTrunk, Stages, stages_of
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]

ARCHITECTURES: dict[str, Stages] = {
    'P5': [(64, 128, 3, True, False), (128, 256, 6, True, False), (256, 512, 6, True, False),
           (512, 1024, 3, False, True)],
    'P6': [(64, 128, 3, True, False), (128, 256, 6, True, False), (256, 512, 6, True, False),
           (512, 768, 3, True, False), (768, 1024, 3, False, True)],
}


@BACKBONES.register
class CSPNeXt(CSPTrunk):
    """CSPNeXt (arXiv:2212.07784): cross-stage-partial stages of large-kernel depthwise blocks.

    Parameters: stem, stage1 to stage4 (stage5 for P6).

    Args:
        arch: 'P5' for strides up to 32, 'P6' for 64.
        deepen_factor: factor of the number of blocks.
        widen_factor: factor of the number of channels.
        out_indices: stages whose output is returned; 0 is the stem.
        frozen_stages: the last stage that does not train; -1 trains all.
        use_depthwise: make every 3 x 3 convolution after the stem depthwise-separable.
        expand_ratio: width of a stage's two halves.
        arch_ovewrite: rows of (in, out, blocks, add input, pooling) in place of `arch`'s. The name is spelt as configs
            spell it.
        spp_kernel_sizes: windows of the pooling pyramid, in cells.
        channel_attention: gate the channels of each stage.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        norm_eval: keep all batch norms in evaluation mode.
        init_cfg: `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked for.
    """

    def __init__(self, arch: str = 'P5', deepen_factor: float = 1.0, widen_factor: float = 1.0,
                 out_indices: Sequence[int] = (2, 3, 4), frozen_stages: int = -1, use_depthwise: bool = False,
                 expand_ratio: float = 0.5, arch_ovewrite: Sequence[Sequence[Any]] | None = None,
                 spp_kernel_sizes: Sequence[int] = (5, 9, 13), channel_attention: bool = True,
                 conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg = {'type': 'BN', 'momentum': 0.03, 'eps': 0.001},
                 act_cfg: Cfg = {'type': 'SiLU'},
                 norm_eval: bool = False, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}

        def stem(channels: int) -> nn.Module:
            return nn.Sequential(ConvModule(3, channels // 2, 3, stride=2, padding=1, **cfgs),
                                 ConvModule(channels // 2, channels // 2, 3, padding=1, **cfgs),
                                 ConvModule(channels // 2, channels, 3, padding=1, **cfgs))

        super().__init__(stem, CSPNeXtBlock, stages_of('CSPNeXt', arch, ARCHITECTURES, arch_ovewrite), deepen_factor,
                         widen_factor, out_indices, frozen_stages, use_depthwise, expand_ratio, channel_attention,
                         spp_kernel_sizes, norm_eval, cfgs)
