"""VGG, and the form of it that SSD stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import initialize
from omnidet.nn.freeze import freeze, norms_to_eval
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]

DEPTHS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five stages (arXiv:1409.1556, table 1: A, B, D, E)."""

DEFAULT_INIT: list[Cfg] = [{'type': 'Kaiming', 'layer': 'Conv2d'},
                           {'type': 'Constant', 'val': 1, 'layer': '_BatchNorm'}]


def vgg_stages(where: str, depth: int, with_bn: bool = False, dilations: Sequence[int] = (1,) * 5,
               ceil_mode: bool = False) -> list[list[nn.Module]]:
    """The layers of each stage: convolutions with their norms and ReLUs, and a pooling at the end.

    Raises:
        ConfigError: an unknown depth.
    """
    if depth not in DEPTHS:
        raise ConfigError(f'{where}: depth is {depth!r}; allowed are {sorted(DEPTHS)}')
    stages, c_in = [], 3
    for i, dilation in enumerate(dilations):
        layers: list[nn.Module] = []
        for _ in range(DEPTHS[depth][i]):
            c_out = min(64 * 2 ** i, 512)
            layers += [nn.Conv2d(c_in, c_out, 3, padding=dilation, dilation=dilation),
                       *([nn.BatchNorm2d(c_out)] if with_bn else []), nn.ReLU(inplace=True)]
            c_in = c_out
        stages.append([*layers, nn.MaxPool2d(2, 2, ceil_mode=ceil_mode)])
    return stages


@BACKBONES.register
class VGG(nn.Module):
    """VGG without its classifier (arXiv:1409.1556); a level is a stage's output, after its pooling.

    Parameters: features, numbered as in torchvision's VGG.

    Args:
        depth: 11, 13, 16 or 19.
        with_bn: a batch norm after every convolution.
        num_stages: how many of the five stages there are.
        dilations: of each stage's convolutions.
        out_indices: stages whose output is returned.
        frozen_stages: how many stages, from the first, do not train; -1 as well as 0 trains all.
        bn_eval: keep all batch norms in evaluation mode.
        bn_frozen: and do not train their weights either.
        ceil_mode: let poolings keep an odd last row and column.
        with_last_pool: end with the last stage's pooling.
        pretrained: where the weights lie, as older configs say it; see `init_cfg`.
        init_cfg: initial values, or `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked
            for.

    Raises:
        ConfigError: an unknown depth, or stages that there are not.
    """

    def __init__(self, depth: int, with_bn: bool = False, num_stages: int = 5, dilations: Sequence[int] = (1,) * 5,
                 out_indices: Sequence[int] = (0, 1, 2, 3, 4), frozen_stages: int = -1, bn_eval: bool = True,
                 bn_frozen: bool = False, ceil_mode: bool = False, with_last_pool: bool = True,
                 pretrained: str | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if not 1 <= num_stages <= 5 or len(dilations) < num_stages or not set(out_indices) <= set(range(num_stages)):
            raise ConfigError(f'VGG: num_stages {num_stages} (1 to 5), dilations {tuple(dilations)} and out_indices '
                              f'{tuple(out_indices)} do not fit each other')
        stages = vgg_stages('VGG', depth, with_bn, dilations[:num_stages], ceil_mode)
        if not with_last_pool:
            stages[-1].pop()
        self.ends = [sum(map(len, stages[:i])) for i in range(num_stages + 1)]
        self.out_indices, self.frozen_stages, self.bn_eval = tuple(out_indices), frozen_stages, bn_eval
        self.features = nn.Sequential(*(layer for stage in stages for layer in stage))
        initialize(self, init_cfg, default=DEFAULT_INIT)
        freeze(self._frozen())
        if bn_eval and bn_frozen:
            freeze(m for m in self.modules() if isinstance(m, nn.BatchNorm2d))

    def _frozen(self) -> list[nn.Module]:
        return list(self.features[:self.ends[max(self.frozen_stages, 0)]])

    def train(self, mode: bool = True) -> VGG:
        super().train(mode)
        norms_to_eval([self] if self.bn_eval else self._frozen())
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H / stride, W / stride) for each of `out_indices`."""
        out = []
        for i, (start, end) in enumerate(pairwise(self.ends)):
            x = self.features[start:end](x)
            if i in self.out_indices:
                out.append(x)
        return tuple(out)


@BACKBONES.register
class SSDVGG(nn.Module):
    """VGG without its last pooling, and the classifier's first layers as convolutions (arXiv:1512.02325, section 3.1).

    Parameters: features; the first are those of VGG.

    Args:
        depth: of the VGG: 11, 13, 16 or 19.
        with_last_pool: keep the VGG's last pooling.
        ceil_mode: let poolings keep an odd last row and column.
        out_indices: accepted as configs carry it; `out_feature_indices` says what is returned.
        out_feature_indices: layers of `features` whose output is returned.
        pretrained: where the weights lie, as older configs say it; see `init_cfg`.
        init_cfg: initial values, or `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked
            for.
        input_size, l2_norm_scale: accepted as configs carry them; the norm is the neck's.

    Raises:
        ConfigError: an unknown depth, or layers that there are not.
    """

    def __init__(self, depth: int, with_last_pool: bool = False, ceil_mode: bool = True,
                 out_indices: Sequence[int] = (3, 4), out_feature_indices: Sequence[int] = (22, 34),
                 pretrained: str | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 input_size: int | None = None, l2_norm_scale: float | None = None) -> None:
        super().__init__()
        layers = [layer for stage in vgg_stages('SSDVGG', depth, ceil_mode=ceil_mode) for layer in stage]
        self.features = nn.Sequential(
            *(layers if with_last_pool else layers[:-1]),
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(inplace=True),
            nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True))
        if not set(out_feature_indices) <= set(range(len(self.features))):
            raise ConfigError(f'SSDVGG: out_feature_indices {tuple(out_feature_indices)} must lie in 0 to '
                              f'{len(self.features) - 1}')
        self.out_feature_indices = tuple(out_feature_indices)
        initialize(self, init_cfg, default=DEFAULT_INIT)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H', W') for each of `out_feature_indices`."""
        out = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.out_feature_indices:
                out.append(x)
        return tuple(out)
