"""Fold batch norms into the convolutions before them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_conv_bn(model: nn.Module) -> nn.Module:
    """A copy of `model` for inference, in which each batch norm is part of the convolution before it.

    Fused are the pairs that are sure to follow each other: `.conv` and `.bn` of one module (a `ConvModule`), those that
    a module lists as `conv_norms` (residual blocks and their stem), and a convolution and a batch norm in sequence in
    an `nn.Sequential`. A convolution that several norms share (the levels of RTMDet's head) becomes one of its own for
    each of them.

    Args:
        model: left as it is.

    Returns:
        The copy, in evaluation mode; its outputs are those of `model.eval()` up to rounding.
    """
    model = copy.deepcopy(model).eval()
    for parent, conv_name, bn_name in list(_pairs(model)):
        conv, bn = getattr(parent, conv_name), getattr(parent, bn_name)
        setattr(parent, conv_name, fuse_conv_bn_eval(conv, bn))
        setattr(parent, bn_name, nn.Identity())
    return model


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(the module that has both, the convolution's name in it, the norm's)."""
    for module in model.modules():
        names = getattr(module, 'conv_norms', [('conv', 'bn')])
        if isinstance(module, nn.Sequential):
            children = [name for name, _ in module.named_children()]
            names = list(itertools.pairwise(children))
        elif not _norm_follows_conv(module):
            continue
        for conv, bn in names:
            if _fits(getattr(module, conv, None), getattr(module, bn, None)):
                yield module, conv, bn


def _norm_follows_conv(module: nn.Module) -> bool:
    order = getattr(module, 'order', ('conv', 'norm', 'act'))
    return ('conv', 'norm') in itertools.pairwise(order)


def _fits(conv: object, bn: object) -> bool:
    """A plain convolution (a subclass or a hook may do something with its weight) and a norm with fixed statistics."""
    return type(conv) is nn.Conv2d and not conv._forward_pre_hooks \
        and isinstance(bn, (nn.BatchNorm2d, nn.SyncBatchNorm)) \
        and bn.running_mean is not None and len(bn.running_mean) == conv.out_channels
