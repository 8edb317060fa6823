"""CSPNeXt, the backbone of RTMDet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, DepthwiseSeparableConvModule, init_conv_
from omnidet.nn.csp import CSPNeXtLayer, SPPBottleneck
from omnidet.nn.freeze import freeze, norms_to_eval
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]

# in channels, out channels, blocks, whether a block adds its input, whether pooling pyramids come first
ARCHITECTURES: dict[str, list[tuple[int, int, int, bool, bool]]] = {
    'P5': [(64, 128, 3, True, False), (128, 256, 6, True, False), (256, 512, 6, True, False),
           (512, 1024, 3, False, True)],
    'P6': [(64, 128, 3, True, False), (128, 256, 6, True, False), (256, 512, 6, True, False),
           (512, 768, 3, True, False), (768, 1024, 3, False, True)],
}


@BACKBONES.register
class CSPNeXt(nn.Module):
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
        super().__init__()
        if arch not in ARCHITECTURES:
            raise ConfigError(f'CSPNeXt: arch is {arch!r}; allowed are {sorted(ARCHITECTURES)}')
        stages = arch_ovewrite or ARCHITECTURES[arch]
        if not set(out_indices) <= set(range(len(stages) + 1)):
            raise ConfigError(f'CSPNeXt: out_indices {tuple(out_indices)} must lie in 0 to {len(stages)}')
        if not -1 <= frozen_stages <= len(stages):
            raise ConfigError(f'CSPNeXt: frozen_stages {frozen_stages} must lie in -1 to {len(stages)}')
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule

        width = stages[0][0] * widen_factor
        self.stem = nn.Sequential(
            ConvModule(3, int(width // 2), 3, stride=2, padding=1, **cfgs),
            ConvModule(int(width // 2), int(width // 2), 3, padding=1, **cfgs),
            ConvModule(int(width // 2), int(width), 3, padding=1, **cfgs))
        self.layers = ['stem']
        for i, (c_in, c_out, blocks, add_identity, use_spp) in enumerate(stages):
            c_in, c_out = int(c_in * widen_factor), int(c_out * widen_factor)
            stage: list[nn.Module] = [conv(c_in, c_out, 3, stride=2, padding=1, **cfgs)]
            if use_spp:
                stage.append(SPPBottleneck(c_out, c_out, tuple(spp_kernel_sizes), **cfgs))
            stage.append(CSPNeXtLayer(c_out, c_out, expand_ratio, max(round(blocks * deepen_factor), 1), add_identity,
                                      use_depthwise, channel_attention, **cfgs))
            self.add_module(f'stage{i + 1}', nn.Sequential(*stage))
            self.layers.append(f'stage{i + 1}')
        init_conv_(self)
        freeze(self._frozen())

    def _frozen(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.layers[:self.frozen_stages + 1]]

    def train(self, mode: bool = True) -> CSPNeXt:
        super().train(mode)
        norms_to_eval([self] if self.norm_eval else self._frozen())
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H / stride, W / stride) for each of `out_indices`."""
        out = []
        for i, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                out.append(x)
        return tuple(out)
