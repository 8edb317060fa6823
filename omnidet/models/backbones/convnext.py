"""ConvNeXt, a convolutional network in the proportions of a vision transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError, did_you_mean
from omnidet.nn import build_activation, build_norm, initialize
from omnidet.nn.drop import DropPath, drop_path_rates
from omnidet.nn.freeze import freeze
from omnidet.nn.recompute import recompute
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]

ARCHITECTURES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    'atto': ((2, 2, 6, 2), (40, 80, 160, 320)),
    'femto': ((2, 2, 6, 2), (48, 96, 192, 384)),
    'pico': ((2, 2, 6, 2), (64, 128, 256, 512)),
    'nano': ((2, 2, 8, 2), (80, 160, 320, 640)),
    'tiny': ((3, 3, 9, 3), (96, 192, 384, 768)),
    'small': ((3, 3, 27, 3), (96, 192, 384, 768)),
    'base': ((3, 3, 27, 3), (128, 256, 512, 1024)),
    'large': ((3, 3, 27, 3), (192, 384, 768, 1536)),
    'xlarge': ((3, 3, 27, 3), (256, 512, 1024, 2048)),
    'huge': ((3, 3, 27, 3), (352, 704, 1408, 2816)),
}
"""Blocks and channels of each stage (arXiv:2201.03545, section 3; arXiv:2301.00808, section 5)."""

LN: Cfg = {'type': 'LN2d', 'eps': 1e-6}
DEFAULT_INIT: list[Cfg] = [{'type': 'TruncNormal', 'layer': ['Conv2d', 'Linear'], 'std': 0.02, 'bias': 0}]


class GRN(nn.Module):
    """Each channel times how strong it is among all of its pixel's image (arXiv:2301.00808, equations 1 to 3).

    Parameters: gamma, beta.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        strength = torch.linalg.vector_norm(x.float(), dim=(1, 2), keepdim=True)
        strength = (strength / (strength.mean(-1, keepdim=True) + self.eps)).to(x.dtype)
        return self.gamma * (x * strength) + self.beta + x


class ConvNeXtBlock(nn.Module):
    """A wide convolution of each channel by itself, then a small network at each pixel (arXiv:2201.03545, figure 4).

    Parameters: depthwise_conv, norm, pointwise_conv1, grn (where asked for), pointwise_conv2, gamma (likewise).

    Args:
        channels: C.
        drop_path_rate: the probability of leaving out the branch.
        The others: see `ConvNeXt`.
    """

    def __init__(self, channels: int, drop_path_rate: float, norm_cfg: Cfg, act_cfg: Cfg, linear_pw_conv: bool,
                 layer_scale_init_value: float, use_grn: bool, with_cp: bool) -> None:
        super().__init__()
        self.with_cp, self.linear = with_cp, linear_pw_conv
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = build_norm(norm_cfg, channels)[1]
        self.pointwise_conv1 = _pointwise(channels, 4 * channels, linear_pw_conv)
        self.act = build_activation(act_cfg)
        self.grn = GRN(4 * channels) if use_grn else None
        self.pointwise_conv2 = _pointwise(4 * channels, channels, linear_pw_conv)
        self.gamma = nn.Parameter(torch.full((channels,), float(layer_scale_init_value))) \
            if layer_scale_init_value > 0 else None
        self.drop_path = DropPath(drop_path_rate)

    def _branch(self, x: Tensor) -> Tensor:
        x = self.norm(self.depthwise_conv(x))
        x = x.permute(0, 2, 3, 1) if self.linear else x
        x = self.act(self.pointwise_conv1(x))
        if self.grn is not None:
            x = self.grn(x) if self.linear else self.grn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.pointwise_conv2(x)
        x = x.permute(0, 3, 1, 2) if self.linear else x
        return self.drop_path(x if self.gamma is None else x * self.gamma[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + (recompute(self._branch, x, self) if self.with_cp and self.training else self._branch(x))


@BACKBONES.register
class ConvNeXt(nn.Module):
    """ConvNeXt (arXiv:2201.03545) and its second version (arXiv:2301.00808), under mmpretrain's names.

    Parameters: downsample_layers, stages, and norm0 to norm3 of `out_indices`.

    Args:
        arch: one of `ARCHITECTURES`, or dict(depths=..., channels=...).
        in_channels: channels of an image.
        stem_patch_size: side of a patch, which becomes a pixel of the first map.
        norm_cfg, act_cfg: the kinds of layers.
        linear_pw_conv: have linear layers for what convolutions of 1 x 1 would do.
        use_grn: the second version's blocks.
        drop_path_rate: the probability of leaving out the last block's branch; the first's is 0.
        layer_scale_init_value: where positive, branches are multiplied by a learned vector that begins there.
        out_indices: stages whose maps come out, normalised; negative ones count from the last.
        frozen_stages: how many stages do not train.
        gap_before_final_norm: give the mean of each map, as for classifying, in place of the map.
        with_cp: keep fewer maps for the backward pass, and compute them again.
        init_cfg: initial values, or `dict(type='Pretrained', checkpoint=...)`, read where pretrained weights are asked
            for.

    Raises:
        ConfigError: an unknown `arch`, or a stage that does not exist.
    """

    def __init__(self, arch: str | Cfg = 'tiny', in_channels: int = 3, stem_patch_size: int = 4,
                 norm_cfg: Cfg = LN, act_cfg: Cfg = {'type': 'GELU'}, linear_pw_conv: bool = True,
                 use_grn: bool = False, drop_path_rate: float = 0.0, layer_scale_init_value: float = 1e-6,
                 out_indices: int | Sequence[int] = -1, frozen_stages: int = 0, gap_before_final_norm: bool = True,
                 with_cp: bool = False, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        depths, channels = _architecture(arch)
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        self.out_indices = [i + len(depths) if i < 0 else i for i in indices]
        if not set(self.out_indices) <= set(range(len(depths))) or not 0 <= frozen_stages <= len(depths):
            raise ConfigError(f'ConvNeXt: out_indices {indices} and frozen_stages {frozen_stages} must lie within the '
                              f'{len(depths)} stages of arch')
        self.frozen_stages, self.gap_before_final_norm = frozen_stages, gap_before_final_norm
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        rates = drop_path_rates(drop_path_rate, list(depths))
        for i, C in enumerate(channels):
            norm = build_norm(norm_cfg, channels[i - 1] if i else C)[1]
            self.downsample_layers.append(
                nn.Sequential(norm, nn.Conv2d(channels[i - 1], C, 2, 2)) if i else
                nn.Sequential(nn.Conv2d(in_channels, C, stem_patch_size, stem_patch_size), norm))
            self.stages.append(nn.Sequential(*(
                ConvNeXtBlock(C, rate, norm_cfg, act_cfg, linear_pw_conv, layer_scale_init_value, use_grn, with_cp)
                for rate in rates[i])))
            if i in self.out_indices:
                self.add_module(f'norm{i}', build_norm(norm_cfg, C)[1])
        initialize(self, init_cfg, default=DEFAULT_INIT)
        freeze(self._frozen())

    def _frozen(self) -> list[nn.Module]:
        return [*self.downsample_layers[:self.frozen_stages], *self.stages[:self.frozen_stages]]

    def train(self, mode: bool = True) -> ConvNeXt:
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H / stride, W / stride) for each of `out_indices`, sides rounded down."""
        out = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(downsample(x))
            if i in self.out_indices:
                norm = getattr(self, f'norm{i}')
                out.append(norm(x.mean((2, 3), keepdim=True)).flatten(1) if self.gap_before_final_norm else norm(x))
        return tuple(out)


def _pointwise(channels: int, out_channels: int, linear: bool) -> nn.Module:
    return nn.Linear(channels, out_channels) if linear else nn.Conv2d(channels, out_channels, 1)


def _architecture(arch: str | Cfg) -> tuple[Sequence[int], Sequence[int]]:
    if isinstance(arch, str):
        if arch not in ARCHITECTURES:
            raise ConfigError(f'ConvNeXt: arch is {arch!r}{did_you_mean(arch, ARCHITECTURES)}; allowed are '
                              f'{", ".join(ARCHITECTURES)}, or a dict of depths and channels')
        return ARCHITECTURES[arch]
    if not {'depths', 'channels'} <= set(arch) or len(arch['depths']) != len(arch['channels']):
        raise ConfigError(f'ConvNeXt: arch must have depths and channels of one length; found {dict(arch)}')
    return arch['depths'], arch['channels']
