"""Parts of a model that do not train."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze(modules: Iterable[nn.Module]) -> None:
    """Let no parameter of `modules` get a gradient."""
    for module in modules:
        for p in module.parameters():
            p.requires_grad = False


def norms_to_eval(modules: Iterable[nn.Module]) -> None:
    """Let every batch norm in `modules` use its running statistics, and leave them as they are."""
    for module in modules:
        for m in module.modules():
            if isinstance(m, _BatchNorm):
                m.eval()
