"""What backbones of cross-stage-partial layers have in common: a stem, and stages that each halve the map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.conv_module import ConvModule, DepthwiseSeparableConvModule
from omnidet.nn.csp import CSPLayer, SPPBottleneck
from omnidet.nn.freeze import freeze, norms_to_eval
from omnidet.nn.init import init_conv_

Cfg = Mapping[str, Any]
Stages = Sequence[Sequence[Any]]
"""For each stage: in channels, out channels, blocks, whether a block adds its input, whether it pools in a pyramid."""


class CSPTrunk(nn.Module):
    """A stem of stride 2 and stages of strides 4, 8, 16, ...; every convolution starts as torch draws it.

    Parameters: stem, stage1, stage2, ...

    Args:
        stem: made from the channels it gives.
        block: the class of the stages' blocks.
        stages: see `Stages`.
        deepen_factor, widen_factor: factors of the number of blocks and of the channels.
        out_indices: stages whose output is returned; 0 is the stem.
        frozen_stages: the last stage that does not train; 0 is the stem, -1 trains all.
        use_depthwise: make every 3 x 3 convolution after the stem depthwise-separable.
        expand_ratio, channel_attention: see `CSPLayer`.
        spp_kernel_sizes: windows of the pooling pyramid, in cells.
        norm_eval: keep all batch norms in evaluation mode.
        cfgs: `conv_cfg`, `norm_cfg` and `act_cfg` of all layers.
    """

    def __init__(self, stem: Callable[[int], nn.Module], block: Callable[..., nn.Module], stages: Stages,
                 deepen_factor: float, widen_factor: float, out_indices: Sequence[int], frozen_stages: int,
                 use_depthwise: bool, expand_ratio: float, channel_attention: bool, spp_kernel_sizes: Sequence[int],
                 norm_eval: bool, cfgs: Cfg) -> None:
        super().__init__()
        name = type(self).__name__
        if not set(out_indices) <= set(range(len(stages) + 1)):
            raise ConfigError(f'{name}: out_indices {tuple(out_indices)} must lie in 0 to {len(stages)}')
        if not -1 <= frozen_stages <= len(stages):
            raise ConfigError(f'{name}: frozen_stages {frozen_stages} must lie in -1 to {len(stages)}')
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        self.stem = stem(int(stages[0][0] * widen_factor))
        self.layers = ['stem']
        for i, (c_in, c_out, blocks, add_identity, use_spp) in enumerate(stages):
            c_in, c_out = int(c_in * widen_factor), int(c_out * widen_factor)
            stage: list[nn.Module] = [conv(c_in, c_out, 3, stride=2, padding=1, **cfgs)]
            if use_spp:
                stage.append(SPPBottleneck(c_out, c_out, tuple(spp_kernel_sizes), **cfgs))
            stage.append(CSPLayer(block, c_out, c_out, expand_ratio, max(round(blocks * deepen_factor), 1),
                                  add_identity, use_depthwise, channel_attention, **cfgs))
            self.add_module(f'stage{i + 1}', nn.Sequential(*stage))
            self.layers.append(f'stage{i + 1}')
        init_conv_(self)
        freeze(self._frozen())

    def _frozen(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.layers[:self.frozen_stages + 1]]

    def train(self, mode: bool = True) -> CSPTrunk:
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


def stages_of(name: str, arch: str, architectures: Mapping[str, Stages], overwrite: Stages | None) -> Stages:
    """The rows of an architecture, or those given in their place.

    Raises:
        ConfigError: there is no such architecture.
    """
    if arch not in architectures:
        raise ConfigError(f'{name}: arch is {arch!r}; allowed are {sorted(architectures)}')
    return overwrite or architectures[arch]
