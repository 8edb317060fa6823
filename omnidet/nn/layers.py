"""Convolutions, norms and activations by the names that `conv_cfg`, `norm_cfg` and `act_cfg` give them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from omnidet.registry import ACTIVATIONS, CONV_LAYERS, NORM_LAYERS


def _sync_batch_norm(num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                     track_running_stats: bool = True) -> nn.Module:
    """Batch norm over all processes; plain batch norm where there is one process, or no GPU to reduce on."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    cls = nn.SyncBatchNorm if several and torch.cuda.is_available() else nn.BatchNorm2d
    return cls(num_features, eps, momentum, affine, track_running_stats)


def _mm_sync_batch_norm(num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                        track_running_stats: bool = True, group: int | None = None,
                        stats_mode: str = 'default') -> nn.Module:
    """MMCV's own form of the same.

    Args:
        group: accepted as configs carry it: the norm is over all processes.
        stats_mode: accepted as configs carry it: processes count by their pixels ('N'); the mean over processes that
            'default' asks for is the same where their batches have one shape.
        The others: see `torch.nn.SyncBatchNorm`.
    """
    return _sync_batch_norm(num_features, eps, momentum, affine, track_running_stats)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class HSigmoid(nn.Module):
    """clamp((x + bias) / divisor, min_value, max_value)."""

    def __init__(self, bias: float = 3.0, divisor: float = 6.0, min_value: float = 0.0, max_value: float = 1.0) -> None:
        super().__init__()
        self.bias, self.divisor, self.min_value, self.max_value = bias, divisor, min_value, max_value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x + self.bias) / self.divisor).clamp(self.min_value, self.max_value)


class SiLU(nn.SiLU):
    """x * sigmoid(x); in place only where no gradient is recorded, as its backward pass would have to keep a copy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x, inplace=self.inplace and not x.requires_grad)


for _name, _layer in {'Conv1d': nn.Conv1d, 'Conv2d': nn.Conv2d, 'Conv3d': nn.Conv3d, 'Conv': nn.Conv2d,
                      'deconv': nn.ConvTranspose2d}.items():
    CONV_LAYERS.register(_layer, _name)
for _name, _norm in {'BN': nn.BatchNorm2d, 'BN1d': nn.BatchNorm1d, 'BN2d': nn.BatchNorm2d, 'BN3d': nn.BatchNorm3d,
                     'SyncBN': _sync_batch_norm, 'GN': nn.GroupNorm, 'LN': nn.LayerNorm, 'IN': nn.InstanceNorm2d,
                     'MMSyncBN': _mm_sync_batch_norm, 'LN2d': LayerNorm2d, 'IN1d': nn.InstanceNorm1d,
                     'IN2d': nn.InstanceNorm2d, 'IN3d': nn.InstanceNorm3d,
                     # the names of torch's classes, as configs in the pure-Python form have them
                     'BatchNorm2d': nn.BatchNorm2d, 'SyncBatchNorm': _sync_batch_norm, 'GroupNorm': nn.GroupNorm,
                     'LayerNorm': nn.LayerNorm, 'InstanceNorm2d': nn.InstanceNorm2d}.items():
    NORM_LAYERS.register(_norm, _name)
for _name, _act in {'ReLU': nn.ReLU, 'ReLU6': nn.ReLU6, 'LeakyReLU': nn.LeakyReLU, 'PReLU': nn.PReLU, 'ELU': nn.ELU,
                    'GELU': nn.GELU, 'SiLU': SiLU, 'Swish': SiLU, 'Mish': nn.Mish, 'Sigmoid': nn.Sigmoid,
                    'Tanh': nn.Tanh, 'Hardswish': nn.Hardswish, 'HSwish': nn.Hardswish, 'HSigmoid': HSigmoid}.items():
    ACTIVATIONS.register(_act, _name)


# class, the attribute name of such a layer, the argument that tells its channels; batch norms are what remains
_NAMES = ((nn.GroupNorm, 'gn', 'num_channels'), (nn.LayerNorm, 'ln', 'normalized_shape'),
          (nn.InstanceNorm1d, 'in', 'num_features'), (nn.InstanceNorm2d, 'in', 'num_features'),
          (nn.InstanceNorm3d, 'in', 'num_features'))


def build_conv(cfg: Mapping[str, Any] | None, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
               **kwargs: Any) -> nn.Module:
    """The convolution that `conv_cfg` names; a plain one where it is None."""
    return CONV_LAYERS.build(cfg or {'type': 'Conv2d'}, in_channels=in_channels, out_channels=out_channels,
                             kernel_size=kernel_size, **kwargs)


def build_norm(cfg: Mapping[str, Any], channels: int) -> tuple[str, nn.Module]:
    """The norm layer that `norm_cfg` names, over `channels` channels.

    Returns:
        The attribute name under which checkpoints know such a layer (`bn`, `gn`, `ln`, `in`), and the layer; its
        parameters are frozen where `cfg` has `requires_grad=False`.
    """
    options = dict(cfg)
    requires_grad = options.pop('requires_grad', True)
    layer = NORM_LAYERS.get(options['type']) if isinstance(options.get('type'), str) else options.get('type')
    name, width = next(((name, width) for cls, name, width in _NAMES if isinstance(layer, type) and
                        issubclass(layer, cls)), ('bn', 'num_features'))
    norm = NORM_LAYERS.build(options, **{width: channels})
    for p in norm.parameters():
        p.requires_grad = requires_grad
    return name, norm


def build_activation(cfg: Mapping[str, Any], inplace: bool = True) -> nn.Module:
    """The activation that `act_cfg` names; in place where it can be and `cfg` does not say otherwise."""
    cls = ACTIVATIONS.get(str(cfg.get('type')))
    defaults = {'inplace': inplace} if 'inplace' in inspect.signature(cls).parameters else {}
    return ACTIVATIONS.build({k: v for k, v in cfg.items() if k != 'inplace' or defaults}, **defaults)
