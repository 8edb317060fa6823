"""Convolutions whose kernels are standardised whenever they are used (Weight Standardization, arXiv:1903.10520)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from omnidet.registry import CONV_LAYERS


class ConvWS2d(nn.Conv2d):
    """A convolution with (w - mean) / (std + eps) for w, over each output channel's kernel (equation 6).

    Args:
        eps: added to the standard deviation.
        The others: see `torch.nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, bias: bool = True, eps: float = 1e-5) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        std, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (std + self.eps), self.bias)


class ConvAWS2d(nn.Conv2d):
    """A convolution with gamma (w - mean) / sqrt(var + 1e-5) + beta for w (DetectoRS, arXiv:2006.02334, section 4.2).

    Buffers: weight_gamma, weight_beta, (out_channels, 1, 1, 1). Weights of a plain convolution, which lack these, load
    so that gamma and beta undo the standardisation: the layer then computes what the plain one did.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.register_buffer('weight_gamma', torch.ones(out_channels, 1, 1, 1))
        self.register_buffer('weight_beta', torch.zeros(out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        std, mean = _std_mean(self.weight)
        return self._conv_forward(x, self.weight_gamma * (self.weight - mean) / std + self.weight_beta, self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any],
                              strict: bool, missing_keys: list[str], unexpected_keys: list[str],
                              error_msgs: list[str]) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                                      error_msgs)
        names = [prefix + 'weight_gamma', prefix + 'weight_beta']
        if prefix + 'weight' in state_dict and not any(name in state_dict for name in names):
            with torch.no_grad():
                std, mean = _std_mean(self.weight)
                self.weight_gamma.copy_(std)
                self.weight_beta.copy_(mean)
            missing_keys[:] = [key for key in missing_keys if key not in names]


def _std_mean(weight: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(var + 1e-5) and mean of each output channel's kernel, (out_channels, 1, 1, 1)."""
    var, mean = torch.var_mean(weight, (1, 2, 3), keepdim=True)
    return (var + 1e-5).sqrt(), mean


for _cls, _names in {ConvWS2d: ('ConvWS', 'ConvWS2d'), ConvAWS2d: ('ConvAWS', 'ConvAWS2d')}.items():
    for _name in _names:
        CONV_LAYERS.register(_cls, _name)
