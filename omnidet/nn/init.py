"""Initial values of parameters."""

from __future__ import annotations

import math

from torch import nn


def bias_for_probability(p: float) -> float:
    """The bias at which a sigmoid gives `p`: heads start by expecting few objects (arXiv:1708.02002, section 4.1)."""
    return -math.log((1 - p) / p)


def normal_(module: nn.Module, std: float = 0.01, bias: float = 0.0) -> None:
    """Draw the weight from a normal distribution of mean 0 and set the bias, where the module has them."""
    if isinstance(getattr(module, 'weight', None), nn.Parameter):
        nn.init.normal_(module.weight, 0, std)    # type: ignore[arg-type]
    if isinstance(getattr(module, 'bias', None), nn.Parameter):
        nn.init.constant_(module.bias, bias)    # type: ignore[arg-type]


def init_conv_(module: nn.Module) -> None:
    """Every 2-d convolution in `module` as torch draws it (Kaiming, uniform, a = sqrt 5), with its bias at 0."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_uniform_(m.weight, a=math.sqrt(5))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
