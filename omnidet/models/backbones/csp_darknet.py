"""CSPDarknet, the backbone of YOLOX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.nn import ConvModule
from omnidet.nn.csp import DarknetBlock
from omnidet.nn.csp_trunk import CSPTrunk, Stages, stages_of
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]

ARCHITECTURES: dict[str, Stages] = {
    'P5': [(64, 128, 3, True, False), (128, 256, 9, True, False), (256, 512, 9, True, False),
           (512, 1024, 3, False, True)],
    'P6': [(64, 128, 3, True, False), (128, 256, 9, True, False), (256, 512, 9, True, False),
           (512, 768, 3, True, False), (768, 1024, 3, False, True)],
}


class Focus(nn.Module):
    """Every second pixel of every second row, four times shifted, side by side; then a convolution (YOLOv5).

    Parameters: conv.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = None, act_cfg: Cfg | None = None) -> None:
        super().__init__()
        self.conv = ConvModule(4 * in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2,
                               conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / 2, W / 2)."""
        shifts = [x[..., dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]    # top left, bottom left, top right, ...
        out: Tensor = self.conv(torch.cat(shifts, 1))
        return out


@BACKBONES.register
class CSPDarknet(CSPTrunk):
    """CSPDarknet of YOLOv5 and YOLOX (arXiv:2107.08430): cross-stage-partial stages of Darknet's blocks.

    Parameters: stem, stage1 to stage4 (stage5 for P6).

    Args:
        arch: 'P5' for strides up to 32, 'P6' for 64.
        deepen_factor: factor of the number of blocks.
        widen_factor: factor of the number of channels.
        out_indices: stages whose output is returned; 0 is the stem.
        frozen_stages: the last stage that does not train; -1 trains all.
        use_depthwise: make every 3 x 3 convolution after the stem depthwise-separable.
        arch_ovewrite: rows of (in, out, blocks, add input, pooling) in place of `arch`'s. The name is spelt as configs
            spell it.
        spp_kernal_sizes: windows of the pooling pyramid, in cells. Spelt as configs spell it.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        norm_eval: keep all batch norms in evaluation mode.
        init_cfg: `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked for.
    """

    def __init__(self, arch: str = 'P5', deepen_factor: float = 1.0, widen_factor: float = 1.0,
                 out_indices: Sequence[int] = (2, 3, 4), frozen_stages: int = -1, use_depthwise: bool = False,
                 arch_ovewrite: Sequence[Sequence[Any]] | None = None, spp_kernal_sizes: Sequence[int] = (5, 9, 13),
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg = {'type': 'BN', 'momentum': 0.03, 'eps': 0.001},
                 act_cfg: Cfg = {'type': 'Swish'}, norm_eval: bool = False,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        super().__init__(lambda channels: Focus(3, channels, **cfgs), DarknetBlock,
                         stages_of('CSPDarknet', arch, ARCHITECTURES, arch_ovewrite), deepen_factor, widen_factor,
                         out_indices, frozen_stages, use_depthwise, 0.5, False, spp_kernal_sizes, norm_eval, cfgs)
