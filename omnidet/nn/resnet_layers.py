"""The residual blocks and stages of the ResNet family (arXiv:1512.03385, ResNeXt arXiv:1611.05431)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.fixed_norm import conv_norm, in_sequence
from omnidet.nn.layers import build_conv, build_norm
from omnidet.nn.recompute import recompute
from omnidet.registry import PLUGINS

Cfg = Mapping[str, Any]
BN: Cfg = {'type': 'BN'}


class ResidualBlock(nn.Module):
    """Convolutions, each with its norm and, but for the last, a ReLU; then the input is added, and a ReLU.

    Attributes:
        expansion: output channels, as a factor of `planes`.
        conv_norms: the names of each convolution and the norm behind it; conv1 and bn1, or gn1, and so on.
        plugin_names: for each convolution, the names of the plugins behind it.
        starts_at_zero: the last norm: a block that begins with it at zero begins as the identity
            (arXiv:1706.02677, section 5.1).

    Args:
        convs: the convolutions, in order, and the channels that each gives.
        norm_cfg: the kind of norms.
        downsample: what brings the input to the output's shape; None where it has it.
        with_cp: save memory: compute the block again in the backward pass.
        plugins: each a dict of `cfg`, the plugin, and `position`: 'after_conv1', 'after_conv2' or 'after_conv3'.
    """

    expansion = 1

    def __init__(self, convs: Sequence[tuple[nn.Module, int]], norm_cfg: Cfg, downsample: nn.Sequential | None = None,
                 with_cp: bool = False, plugins: Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.with_cp = with_cp
        names = []
        for i, (conv, channels) in enumerate(convs, 1):
            kind, norm = build_norm(norm_cfg, channels)
            names.append((f'conv{i}', f'{kind}{i}'))
            self.add_module(f'conv{i}', conv)
            self.add_module(f'{kind}{i}', norm)
        self.conv_norms = tuple(names)
        self.starts_at_zero = (names[-1][1],)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.plugin_names = tuple(
            tuple(self._add_plugin(p['cfg'], channels) for p in plugins or () if p['position'] == f'after_conv{i}')
            for i, (_, channels) in enumerate(convs, 1))

    def _add_plugin(self, cfg: Cfg, channels: int) -> str:
        """Build a plugin for `channels`; returns the name that checkpoints know it by."""
        plugin = PLUGINS.build({k: v for k, v in cfg.items() if k != 'postfix'}, in_channels=channels)
        name = f'{getattr(plugin, "plugin_name", type(plugin).__name__.lower())}{cfg.get("postfix", "")}'
        if hasattr(self, name):
            raise ConfigError(f'plugins: two are called {name!r}; give one a postfix')
        self.add_module(name, plugin)
        return name

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) -> (B, planes * expansion, H / stride, W / stride)."""
        out = recompute(self._residual, x, self) if self.with_cp else self._residual(x)
        return self.relu(out)

    def _residual(self, x: Tensor) -> Tensor:
        out, last = x, len(self.conv_norms) - 1
        for i, (conv, norm) in enumerate(self.conv_norms):
            out = conv_norm(getattr(self, conv), getattr(self, norm), out)
            if i < last:
                out = self.relu(out)
            for plugin in self.plugin_names[i]:
                out = getattr(self, plugin)(out)
        identity = x if self.downsample is None else in_sequence(self.downsample, x)
        # a norm needs no output of its own for the backward pass, so the sum may overwrite it; a plugin might
        return out + identity if self.plugin_names[last] else out.add_(identity)


class BasicBlock(ResidualBlock):
    """Two convolutions of 3 x 3. Parameters: conv1, bn1, conv2, bn2, downsample.

    Args:
        inplanes: input channels.
        planes: output channels.
        stride, dilation: of the first convolution.
        downsample: what brings the input to the output's shape.
        style: accepted as configs carry it: the stride can be in one place only.
        with_cp: save memory: compute the block again in the backward pass.
        conv_cfg, norm_cfg: the kinds of layers.
        dcn, plugins: not for this block.

    Raises:
        ConfigError: `dcn` or `plugins` are given.
    """

    def __init__(self, inplanes: int, planes: int, stride: int = 1, dilation: int = 1,
                 downsample: nn.Sequential | None = None, style: str = 'pytorch', with_cp: bool = False,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg = BN, dcn: Cfg | None = None,
                 plugins: Sequence[Cfg] | None = None) -> None:
        if dcn is not None or plugins:
            raise ConfigError('the blocks of ResNet-18 and 34 have no place for dcn and plugins; those from 50 on have')
        convs = [(build_conv(conv_cfg, inplanes, planes, 3, stride=stride, padding=dilation, dilation=dilation,
                             bias=False), planes),
                 (build_conv(conv_cfg, planes, planes, 3, padding=1, bias=False), planes)]
        super().__init__(convs, norm_cfg, downsample, with_cp)


class Bottleneck(ResidualBlock):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1. Parameters: conv1, bn1, conv2, bn2, conv3, bn3, downsample, and plugins.

    Args:
        inplanes: input channels.
        planes: a quarter of the output channels.
        stride, dilation: of the 3 x 3 convolution; with the style 'caffe' the stride is that of the first 1 x 1.
        downsample: what brings the input to the output's shape.
        style: 'pytorch' or 'caffe'.
        with_cp: save memory: compute the block again in the backward pass.
        conv_cfg, norm_cfg: the kinds of layers.
        dcn: the kind of deformable convolution in place of the 3 x 3; with `fallback_on_stride` it stays a plain one.
        plugins: each a dict of `cfg`, the plugin, and `position`: 'after_conv1', 'after_conv2' or 'after_conv3'.
        groups, base_width, base_channels: ResNeXt's: with more than one group the 3 x 3 convolution has
            floor(planes * base_width / base_channels) channels in each.

    Raises:
        ConfigError: an unknown style, or `dcn` together with `conv_cfg`.
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1, dilation: int = 1,
                 downsample: nn.Sequential | None = None, style: str = 'pytorch', with_cp: bool = False,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg = BN, dcn: Cfg | None = None,
                 plugins: Sequence[Cfg] | None = None, groups: int = 1, base_width: int = 4,
                 base_channels: int = 64) -> None:
        if style not in ('pytorch', 'caffe'):
            raise ConfigError(f"style is {style!r}; allowed are 'pytorch' and 'caffe'")
        width = planes if groups == 1 else int(planes * base_width / base_channels) * groups
        first, second = (1, stride) if style == 'pytorch' else (stride, 1)
        middle = conv_cfg
        if dcn is not None and not dcn.get('fallback_on_stride', False):
            if conv_cfg is not None:
                raise ConfigError(f'the 3 x 3 convolution is of dcn={dict(dcn)} or conv_cfg={dict(conv_cfg)}, not both')
            middle = {k: v for k, v in dcn.items() if k != 'fallback_on_stride'}
        convs = [
            (build_conv(conv_cfg, inplanes, width, 1, stride=first, bias=False), width),
            (build_conv(middle, width, width, 3, stride=second, padding=dilation, dilation=dilation, groups=groups,
                        bias=False), width),
            (build_conv(conv_cfg, width, planes * self.expansion, 1, bias=False), planes * self.expansion)]
        super().__init__(convs, norm_cfg, downsample, with_cp, plugins)


ARCHITECTURES: dict[int, tuple[type[ResidualBlock], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
"""depth: (the block, how many of them each stage has) (arXiv:1512.03385, table 1)."""


def architecture(depth: int, depths: Iterable[int] = tuple(ARCHITECTURES)
                 ) -> tuple[type[ResidualBlock], tuple[int, ...]]:
    """The block of a ResNet of `depth`, and how many of them each stage has.

    Raises:
        ConfigError: `depth` is none of `depths`.
    """
    if depth not in depths:
        raise ConfigError(f'depth is {depth!r}; allowed are {", ".join(map(str, depths))}')
    return ARCHITECTURES[depth]


def make_res_layer(block: Any, inplanes: int, planes: int, num_blocks: int, stride: int = 1, dilation: int = 1,
                   avg_down: bool = False, conv_cfg: Cfg | None = None, norm_cfg: Cfg = BN,
                   downsample_first: bool = True, **block_args: Any) -> nn.Sequential:
    """A stage: `num_blocks` blocks, one of which changes the shape.

    Args:
        block: a class with `expansion`: `BasicBlock`, `Bottleneck`, or another that is built as these.
        inplanes: input channels.
        planes: output channels / `block.expansion`.
        stride: of the block that changes the shape.
        dilation: of every block.
        avg_down: let the shortcut take means, and then a convolution without stride (arXiv:1812.01187, figure 2c).
        downsample_first: whether the first block changes the shape, or the last.
        block_args: every block's other arguments.
    """
    outplanes = planes * block.expansion
    downsample = None
    if stride != 1 or inplanes != outplanes:
        pool = [nn.AvgPool2d(stride, stride, ceil_mode=True)] if avg_down else []
        downsample = nn.Sequential(
            *pool, build_conv(conv_cfg, inplanes, outplanes, 1, stride=1 if avg_down else stride, bias=False),
            build_norm(norm_cfg, outplanes)[1])
    block_args.update(dilation=dilation, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
    changing = block(inplanes, planes, stride=stride, downsample=downsample, **block_args)
    if downsample_first:
        return nn.Sequential(changing, *(block(outplanes, planes, **block_args) for _ in range(num_blocks - 1)))
    return nn.Sequential(*(block(inplanes, inplanes // block.expansion, **block_args) for _ in range(num_blocks - 1)),
                         changing)
