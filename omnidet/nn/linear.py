"""Linear layers by the names that `cls_predictor_cfg` and its like give them, and normalised predictors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.registry import CONV_LAYERS, LINEAR_LAYERS

LINEAR_LAYERS.register(nn.Linear, 'Linear')


class MapLinear(nn.Linear):
    """A linear layer on whole maps (M, C, h, w), taken channel by channel, as well as on rows (M, C * h * w).

    On a CPU, many maps are convolved by the weight as one kernel of h x w, which is faster than to lay them out as rows
    and multiply: maps there have their channels last.
    """

    MANY = 256

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and len(x) >= self.MANY and x.device.type == 'cpu':
            return F.conv2d(x, self.weight.view(-1, *x.shape[1:]), self.bias).flatten(1)
        return F.linear(x.flatten(1), self.weight, self.bias)


def build_linear(cfg: Mapping[str, Any] | None, in_features: int, out_features: int) -> nn.Module:
    """The linear layer that `cfg` names; a plain one where it is None."""
    return LINEAR_LAYERS.build(cfg or {'type': 'Linear'}, in_features=in_features, out_features=out_features)


def _unit(x: Tensor, power: float, eps: float) -> Tensor:
    """`x` over the norm along dimension 1, taken to `power`."""
    return x / (x.norm(dim=1, keepdim=True).pow(power) + eps)


@LINEAR_LAYERS.register
class NormedLinear(nn.Linear):
    """The cosine between an input and each row of the weight, scaled by a temperature (arXiv:2008.10032, section 3.4).

    Args:
        in_features, out_features, bias: of the layer.
        tempearture: the temperature, by the name that configs have it under.
        power: of the norms that are divided by.
        eps: added to them.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, tempearture: float = 20,
                 power: float = 1.0, eps: float = 1e-6) -> None:
        super().__init__(in_features, out_features, bias)
        self.temperature, self.power, self.eps = tempearture, power, eps

    def forward(self, x: Tensor) -> Tensor:
        x = _unit(x, self.power, self.eps) * self.temperature
        return F.linear(x, _unit(self.weight, self.power, self.eps), self.bias)


@CONV_LAYERS.register
class NormedConv2d(nn.Conv2d):
    """A convolution whose weight and input have unit norm over the channels, scaled by a temperature.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: of the convolution.
        tempearture: the temperature, by the name that configs have it under.
        power: of the norms that are divided by.
        eps: added to them.
        norm_over_kernel: take the weight's norm over channels and kernel together, not at each place of the kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0,
                 dilation: int = 1, groups: int = 1, bias: bool = True, tempearture: float = 20, power: float = 1.0,
                 eps: float = 1e-6, norm_over_kernel: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.temperature, self.power, self.eps, self.norm_over_kernel = tempearture, power, eps, norm_over_kernel

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1) if self.norm_over_kernel else self.weight
        weight = _unit(flat, self.power, self.eps).view_as(self.weight)
        return self._conv_forward(_unit(x, self.power, self.eps) * self.temperature, weight, self.bias)
