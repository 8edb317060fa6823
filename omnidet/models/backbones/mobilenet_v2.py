"""MobileNetV2, a backbone for small devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, initialize
from omnidet.nn.freeze import freeze, norms_to_eval
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]

STAGES: tuple[tuple[int, int, int, int], ...] = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first block (arXiv:1801.04381, table 2)."""

DEFAULT_INIT: list[Cfg] = [{'type': 'Kaiming', 'layer': 'Conv2d'},
                           {'type': 'Constant', 'val': 1, 'layer': ['_BatchNorm', 'GroupNorm']}]


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and not less than nine tenths of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class InvertedResidual(nn.Module):
    """A narrow map is widened, convolved channel by channel, and made narrow again (arXiv:1801.04381, figure 4).

    Parameters: expand_conv (not where the width stays), depthwise_conv, linear_conv.

    Args:
        in_channels, out_channels: the narrow widths.
        mid_channels: the wide one.
        stride: of the depthwise convolution; with 1 and equal widths the input is added.
        with_cp: compute the block again in the backward pass, instead of keeping its maps.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
    """

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int, stride: int = 1, with_cp: bool = False,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None, act_cfg: Cfg | None = None) -> None:
        super().__init__()
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg}
        self.add_input, self.with_cp = stride == 1 and in_channels == out_channels, with_cp
        self.expand_conv = (None if mid_channels == in_channels else
                            ConvModule(in_channels, mid_channels, 1, act_cfg=act_cfg, **cfgs))
        self.depthwise_conv = ConvModule(mid_channels, mid_channels, 3, stride, 1, groups=mid_channels,
                                         act_cfg=act_cfg, **cfgs)
        self.linear_conv = ConvModule(mid_channels, out_channels, 1, act_cfg=None, **cfgs)

    def _block(self, x: Tensor) -> Tensor:
        wide = x if self.expand_conv is None else self.expand_conv(x)
        out = self.linear_conv(self.depthwise_conv(wide))
        return x + out if self.add_input else out

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(self._block, x, use_reentrant=False)
        return self._block(x)


@BACKBONES.register
class MobileNetV2(nn.Module):
    """MobileNetV2 (arXiv:1801.04381).

    Parameters: conv1, layer1 to layer7, conv2 (where the last level is asked for).

    Args:
        widen_factor: factor of the number of channels, which stay multiples of 8.
        out_indices: levels that come out: 0 to 6 are layer1 to layer7, 7 is conv2.
        frozen_stages: the last layer that does not train; 0 is conv1, -1 trains all.
        conv_cfg, norm_cfg, act_cfg: the kinds of layers.
        norm_eval: keep all batch norms in evaluation mode.
        with_cp: keep fewer maps for the backward pass, and compute them again.
        pretrained: where the weights lie, as older configs say it; see `init_cfg`.
        init_cfg: initial values, or `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked
            for.

    Raises:
        ConfigError: `out_indices` or `frozen_stages` names no level.
    """

    def __init__(self, widen_factor: float = 1.0, out_indices: Sequence[int] = (1, 2, 4, 7), frozen_stages: int = -1,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg = {'type': 'BN'}, act_cfg: Cfg = {'type': 'ReLU6'},
                 norm_eval: bool = False, with_cp: bool = False, pretrained: str | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if not set(out_indices) <= set(range(8)):
            raise ConfigError(f'MobileNetV2: out_indices {tuple(out_indices)} must lie in 0 to 7')
        if not -1 <= frozen_stages <= 7:
            raise ConfigError(f'MobileNetV2: frozen_stages {frozen_stages} must lie in -1 to 7')
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        cfgs: dict[str, Any] = {'conv_cfg': conv_cfg, 'norm_cfg': norm_cfg, 'act_cfg': act_cfg}
        channels = multiple_of_8(32 * widen_factor)
        self.conv1 = ConvModule(3, channels, 3, stride=2, padding=1, **cfgs)
        self.layers = [f'layer{i + 1}' for i in range(len(STAGES))]
        for name, (expansion, width, blocks, stride) in zip(self.layers, STAGES, strict=True):
            stage = []
            for i in range(blocks):
                out = multiple_of_8(width * widen_factor)
                stage.append(InvertedResidual(channels, out, channels * expansion, 1 if i else stride, with_cp, **cfgs))
                channels = out
            self.add_module(name, nn.Sequential(*stage))
        self.conv2 = ConvModule(channels, int(1280 * max(1.0, widen_factor)), 1, **cfgs)
        self.layers.append('conv2')
        initialize(self, init_cfg, default=DEFAULT_INIT)
        freeze(self._frozen())

    def convert_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` with this class's names, where it has torchvision's; both have the same layers in the same order."""
        if 'features.0.0.weight' not in state:
            return dict(state)
        theirs, mine = ([k for k in names if not k.endswith('num_batches_tracked')]
                        for names in (filter(lambda k: k.startswith('features.'), state), self.state_dict()))
        return {k: state[name] for k, name in zip(mine, theirs, strict=True)}

    def _frozen(self) -> list[nn.Module]:
        return [getattr(self, name) for name in ['conv1', *self.layers[:7]][:self.frozen_stages + 1]]

    def train(self, mode: bool = True) -> MobileNetV2:
        super().train(mode)
        norms_to_eval([self] if self.norm_eval else self._frozen())
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H / stride, W / stride) for each of `out_indices`."""
        x = self.conv1(x)
        out = []
        for i, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                out.append(x)
        return tuple(out)
