"""Layers that grid heads have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.nn import ConvModule

Cfg = Mapping[str, Any]


def conv_tower(in_channels: int, channels: int, count: int, last: Cfg | None = None, module: Any = ConvModule,
               **options: Any) -> nn.ModuleList:
    """`count` convolutions of 3 x 3, one after another.

    Args:
        in_channels, channels: of the first one's input, and of all that follows.
        count: how many.
        last: the kind of the last convolution, where it differs.
        module: `ConvModule`, or another that takes its arguments.
        options: the others of `module`: `conv_cfg`, `norm_cfg`, `act_cfg`, `bias`.
    """
    kinds = [options.get('conv_cfg')] * count
    if last is not None and count:
        kinds[-1] = last
    return nn.ModuleList(module(in_channels if i == 0 else channels, channels, 3, padding=1,
                                **{**options, 'conv_cfg': kind}) for i, kind in enumerate(kinds))


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """`x` after all layers: what `nn.Sequential` does, for the lists whose names checkpoints know."""
    for layer in layers:
        x = layer(x)
    return x


def flatten_levels(maps: Sequence[Tensor], channels: int) -> Tensor:
    """L maps (B, A * channels, H_l, W_l) -> (B, N, channels), levels one after another, row by row, then by anchor."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, channels) for m in maps], 1)
