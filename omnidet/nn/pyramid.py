"""What feature pyramids share: which levels they use, the way down, and levels beyond the backbone's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError, did_you_mean
from omnidet.nn.conv_module import ConvModule

SOURCES = ('on_input', 'on_lateral', 'on_output')
"""What the first extra level is computed from: the backbone's last map, the last lateral, the last output."""


def used_levels(where: str, in_channels: Sequence[int], num_outs: int, start_level: int, end_level: int) -> range:
    """The backbone's levels that a pyramid is built on, `start_level` to `end_level`; -1 is the last.

    Raises:
        ConfigError: there are no such levels, or `num_outs` is not what they allow.
    """
    num_ins = len(in_channels)
    if not 0 <= start_level < num_ins or not (end_level == -1 or start_level <= end_level < num_ins):
        raise ConfigError(f'{where}: start_level {start_level} and end_level {end_level} do not fit the {num_ins} '
                          f'levels of in_channels {list(in_channels)}')
    levels = range(start_level, num_ins if end_level == -1 else end_level + 1)
    if num_outs < len(levels) or (levels.stop < num_ins and num_outs != len(levels)):
        allowed = f'{len(levels)}' + ('' if levels.stop < num_ins else ' or more')
        raise ConfigError(f'{where}: num_outs is {num_outs}, but levels {start_level} to {levels.stop - 1} of '
                          f'in_channels {list(in_channels)} allow {allowed}')
    return levels


def extra_source(where: str, add_extra_convs: bool | str) -> str | None:
    """One of `SOURCES`, which True is the first of, or None where extra levels come from max pooling.

    Raises:
        ConfigError: another value.
    """
    if isinstance(add_extra_convs, str) and add_extra_convs not in SOURCES:
        raise ConfigError(f'{where}: add_extra_convs is {add_extra_convs!r}; allowed are False, True, '
                          f'{", ".join(map(repr, SOURCES))}')
    return add_extra_convs if isinstance(add_extra_convs, str) else SOURCES[0] if add_extra_convs else None


def check_interpolation(where: str, upsample_cfg: Mapping[str, Any]) -> None:
    """Refuse an `upsample_cfg` that `torch.nn.functional.interpolate` does not take.

    Raises:
        ConfigError: a key that is none of its arguments.
    """
    allowed = ('mode', 'scale_factor', 'align_corners', 'recompute_scale_factor', 'antialias')
    for key in upsample_cfg:
        if key not in allowed:
            near = did_you_mean(key, allowed) or f'; allowed are {", ".join(allowed)}'
            raise ConfigError(f'{where}: upsample_cfg has {key!r}{near}')


def pyramid_convs(in_channels: Sequence[int], out_channels: int, levels: range, num_outs: int, source: str | None,
                  no_norm_on_lateral: bool, cfgs: Mapping[str, Any]) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The 1 x 1 convolutions that unify the channels, and the 3 x 3 ones of the outputs, extra levels included."""
    lateral = {**cfgs, 'norm_cfg': None} if no_norm_on_lateral else cfgs
    lateral_convs = nn.ModuleList(ConvModule(in_channels[i], out_channels, 1, inplace=False, **lateral) for i in levels)
    out_convs = nn.ModuleList(ConvModule(out_channels, out_channels, 3, padding=1, inplace=False, **cfgs)
                              for _ in levels)
    for i in range(num_outs - len(levels) if source else 0):
        channels = in_channels[levels.stop - 1] if i == 0 and source == 'on_input' else out_channels
        out_convs.append(ConvModule(channels, out_channels, 3, stride=2, padding=1, inplace=False, **cfgs))
    return lateral_convs, out_convs


def top_down(laterals: Sequence[Tensor], upsample_cfg: Mapping[str, Any] = {'mode': 'nearest'}) -> list[Tensor]:
    """Add to each level the next coarser one's sum, enlarged (FPN, arXiv:1612.03144, figure 3).

    Args:
        laterals: (B, C, H_l, W_l), finest first; where no gradient is recorded they may be overwritten.
        upsample_cfg: arguments of `torch.nn.functional.interpolate`; without a `scale_factor` to the finer one's size.

    Returns:
        As many maps of the same shapes.
    """
    out = [laterals[-1]]
    for finer in reversed(laterals[:-1]):
        out.append(_add_enlarged(finer, out[-1], upsample_cfg))
    return out[::-1]


def _add_enlarged(finer: Tensor, coarser: Tensor, upsample_cfg: Mapping[str, Any]) -> Tensor:
    h, w = coarser.shape[2:]
    doubled = upsample_cfg == {'mode': 'nearest'} and finer.shape[2:] == (2 * h, 2 * w)
    if doubled and not (finer.requires_grad or coarser.requires_grad):
        blocks = finer.unflatten(3, (w, 2)).unflatten(2, (h, 2))    # (B, C, h, 2, w, 2)
        blocks.add_(coarser[:, :, :, None, :, None])    # the enlarged map is never made
        return finer
    size = {} if 'scale_factor' in upsample_cfg else {'size': finer.shape[2:]}
    return finer + F.interpolate(coarser, **size, **upsample_cfg)


def add_extra_levels(outs: list[Tensor], first: Tensor | None, convs: Sequence[Callable[[Tensor], Tensor]],
                     num_outs: int, relu_first: bool) -> tuple[Tensor, ...]:
    """`outs` with coarser levels after them, until there are `num_outs`.

    Args:
        outs: (B, C, H_l, W_l), finest first.
        first: what the first of `convs` is applied to; None takes every second pixel of the level before instead.
        convs: of stride 2, one for each extra level.
        num_outs: how many levels there shall be.
        relu_first: apply a ReLU before every convolution but the first.
    """
    outs = list(outs)
    for i in range(num_outs - len(outs)):
        if first is None:
            outs.append(outs[-1][:, :, ::2, ::2])
        elif i == 0:
            outs.append(convs[0](first))
        else:
            outs.append(convs[i](F.relu(outs[-1]) if relu_first else outs[-1]))
    return tuple(outs)


def check_levels(where: str, feats: Sequence[Tensor], in_channels: Sequence[int]) -> None:
    """Refuse another number of levels than the neck was built for.

    Raises:
        ConfigError: `feats` and `in_channels` differ in number.
    """
    if len(feats) != len(in_channels):
        raise ConfigError(f'{where}: the backbone gives {len(feats)} levels, in_channels names '
                          f'{len(in_channels)}: {list(in_channels)}')
