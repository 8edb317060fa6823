"""What the backbones of the ResNet family have in common: a stem and up to four stages of residual blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.fixed_norm import conv_norm, in_sequence
from omnidet.nn.freeze import freeze, norms_to_eval
from omnidet.nn.initialize import initialize
from omnidet.nn.layers import build_conv, build_norm
from omnidet.nn.resnet_layers import BN, ResidualBlock, make_res_layer

Cfg = Mapping[str, Any]

POSITIONS = ('after_conv1', 'after_conv2', 'after_conv3')


class ResNetTrunk(nn.Module):
    """A stem of stride 4 and stages of strides 4, 8, 16 and 32.

    Parameters: conv1 and bn1 (or gn1), or stem where it is deep; layer1 to layer4.

    Args:
        block: the class of the blocks.
        stage_blocks: how many blocks each stage has.
        block_args: arguments of every block that the others here do not tell.
        in_channels: of the image.
        stem_channels: of the stem; those of the first stage where None.
        base_channels: the first stage's width; it doubles with each stage.
        num_stages: how many stages there are, 1 to 4.
        strides, dilations: of each stage.
        out_indices: stages whose output is returned; 0 is the first.
        style: 'pytorch': a bottleneck strides in its 3 x 3 convolution; 'caffe': in the 1 x 1 before it.
        deep_stem: three convolutions of 3 x 3 in place of one of 7 x 7.
        avg_down: let shortcuts take means, and then a convolution without stride.
        frozen_stages: the last stage that does not train; 0 is the stem, -1 trains all.
        conv_cfg, norm_cfg: the kinds of layers.
        norm_eval: keep all batch norms in evaluation mode.
        dcn: the kind of deformable convolution in stages where `stage_with_dcn` says so.
        plugins: each a dict of `cfg`, the plugin (with a `postfix` of its name where a block has several),
            `position`, 'after_conv1' to 'after_conv3', and as needed `stages`, a bool for each stage.
        with_cp: save memory: compute blocks again in the backward pass.
        zero_init_residual: begin with blocks that are the identity.
        pretrained: the file of weights, as configs of the 2.x series name it; the 3.x form is
            `init_cfg=dict(type='Pretrained', checkpoint=...)`. It is read where pretrained weights are asked for.
        init_cfg: how parameters begin: by default Kaiming's normal distribution over the fan out, norms at 1 and 0.

    Raises:
        ConfigError: what does not fit together.
    """

    def __init__(self, block: type[Any], stage_blocks: Sequence[int], block_args: Mapping[str, Any] | None = None, *,
                 in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64, num_stages: int = 4,
                 strides: Sequence[int] = (1, 2, 2, 2), dilations: Sequence[int] = (1, 1, 1, 1),
                 out_indices: Sequence[int] = (0, 1, 2, 3), style: str = 'pytorch', deep_stem: bool = False,
                 avg_down: bool = False, frozen_stages: int = -1, conv_cfg: Cfg | None = None, norm_cfg: Cfg = BN,
                 norm_eval: bool = True, dcn: Cfg | None = None,
                 stage_with_dcn: Sequence[bool] = (False, False, False, False),
                 plugins: Sequence[Cfg] | None = None, with_cp: bool = False, zero_init_residual: bool = True,
                 pretrained: str | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if not 1 <= num_stages <= len(stage_blocks):
            raise self._error(f'num_stages is {num_stages}; allowed are 1 to {len(stage_blocks)}')
        for name, value in {'strides': strides, 'dilations': dilations}.items():
            if len(value) != num_stages:
                raise self._error(f'{name} has {len(value)} entries for {num_stages} stages: {tuple(value)}')
        if dcn is not None and len(stage_with_dcn) != num_stages:
            raise self._error(f'stage_with_dcn has {len(stage_with_dcn)} entries for {num_stages} stages')
        if not out_indices or not set(out_indices) <= set(range(num_stages)):
            raise self._error(f'out_indices {tuple(out_indices)} must lie in 0 to {num_stages - 1}')
        if not -1 <= frozen_stages <= num_stages:
            raise self._error(f'frozen_stages is {frozen_stages}; allowed are -1 to {num_stages}')
        if pretrained is not None and init_cfg is not None:
            raise self._error('pretrained and init_cfg are both given; init_cfg alone says it all')
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        self.deep_stem = deep_stem

        width = base_channels if stem_channels is None else stem_channels
        self.conv_norms: tuple[tuple[str, str], ...] = ()    # the convolutions with norms behind them, as a block's
        if deep_stem:
            self.stem = _deep_stem(in_channels, width, conv_cfg, norm_cfg)
        else:
            self.conv1 = build_conv(conv_cfg, in_channels, width, 7, stride=2, padding=3, bias=False)
            kind, norm = build_norm(norm_cfg, width)
            self.add_module(f'{kind}1', norm)
            self.conv_norms = (('conv1', f'{kind}1'),)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.res_layers = [f'layer{i + 1}' for i in range(num_stages)]
        for i, name in enumerate(self.res_layers):
            planes = base_channels * 2 ** i
            self.add_module(name, make_res_layer(
                block, width, planes, stage_blocks[i], strides[i], dilations[i], avg_down, conv_cfg, norm_cfg,
                style=style, with_cp=with_cp, dcn=dcn if dcn is not None and stage_with_dcn[i] else None,
                plugins=self._plugins_of(i, plugins or (), num_stages), **(block_args or {})))
            width = planes * block.expansion
        initialize(self, init_cfg, default=[
            {'type': 'Kaiming', 'layer': 'Conv2d'},
            {'type': 'Constant', 'val': 1, 'layer': ['_BatchNorm', 'GroupNorm']},
            {'type': 'Constant', 'val': 0, 'override': list(self._zeros(zero_init_residual))}])
        freeze(self._frozen())

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f'{type(self).__name__}: {message}')

    def _plugins_of(self, stage: int, plugins: Sequence[Cfg], num_stages: int) -> list[Cfg]:
        """The plugins that `stage` has."""
        for p in plugins:
            stages = p.get('stages')
            if p.get('position') not in POSITIONS or 'cfg' not in p:
                raise self._error(f'a plugin has a cfg and a position, which is one of {", ".join(POSITIONS)}; '
                                  f'found {dict(p)}')
            if stages is not None and len(stages) != num_stages:
                raise self._error(f'the stages of a plugin have {len(stages)} entries for {num_stages} stages')
        return [p for p in plugins if p.get('stages') is None or p['stages'][stage]]

    def _zeros(self, zero_init_residual: bool) -> Iterator[Cfg]:
        """The parts that begin at zero."""
        for name, module in self.named_modules():
            if zero_init_residual or not isinstance(module, ResidualBlock):
                for child in getattr(module, 'starts_at_zero', ()):
                    yield {'name': f'{name}.{child}'}

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stem = [self.stem] if self.deep_stem else [getattr(self, name) for name in self.conv_norms[0]]
        return stem + [getattr(self, name) for name in self.res_layers[:self.frozen_stages]]

    def train(self, mode: bool = True) -> ResNetTrunk:
        super().train(mode)
        norms_to_eval([self] if self.norm_eval else self._frozen())
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W) -> (B, C, H / stride, W / stride) for each of `out_indices`."""
        if self.deep_stem:
            x = in_sequence(self.stem, x)
        else:
            conv, norm = self.conv_norms[0]
            x = self.relu(conv_norm(getattr(self, conv), getattr(self, norm), x))
        x = self.maxpool(x)
        out = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                out.append(x)
        return tuple(out)


def _deep_stem(in_channels: int, width: int, conv_cfg: Cfg | None, norm_cfg: Cfg) -> nn.Sequential:
    """Three convolutions of 3 x 3, the first of stride 2, of half the width but for the last (arXiv:1812.01187)."""
    layers: list[nn.Module] = []
    channels = [in_channels, width // 2, width // 2, width]
    for i, (c_in, c_out) in enumerate(itertools.pairwise(channels)):
        layers += [build_conv(conv_cfg, c_in, c_out, 3, stride=1 if i else 2, padding=1, bias=False),
                   build_norm(norm_cfg, c_out)[1], nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
