"""A batch norm with fixed statistics scales and shifts: while training, the convolution before it can do that."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(conv(x)), in one pass over the map where the norm does not look at it.

    Most detectors train with the backbone's batch norms in evaluation mode. Then
    norm(conv(x; w)) = conv(x; w s) + b with s = gamma / sqrt(var + eps) and b = beta - mean s, and its gradients with
    respect to w, gamma and beta are those of that equation. The map between the two, as large as the convolution's
    output, is neither made nor kept for the backward pass. Without gradients, and with hooks on either module, both
    are called as they are; so they are where the weights are larger than the map.

    Args:
        conv: a convolution.
        norm: what comes behind it.
        x: (B, C, H, W).
    """
    if torch.is_grad_enabled() and _only_scales(norm) and _is_plain(conv) and conv.weight.numel() <= x.numel():
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()    # (C_out,)
        bias = norm.bias - norm.running_mean * scale
        if conv.bias is not None:
            bias = bias + conv.bias * scale
        return F.conv2d(x, conv.weight * scale[:, None, None, None], bias, conv.stride, conv.padding,    # type: ignore[arg-type]
                        conv.dilation, conv.groups)    # type: ignore[arg-type]
    return norm(conv(x))


def in_sequence(layers: nn.Sequential, x: Tensor) -> Tensor:
    """layers(x), with `conv_norm` for each convolution that a norm follows."""
    if layers._forward_hooks or layers._forward_pre_hooks:
        return layers(x)
    todo = list(layers)
    while todo:
        layer = todo.pop(0)
        if todo and isinstance(layer, nn.Conv2d) and isinstance(todo[0], nn.BatchNorm2d):
            x = conv_norm(layer, todo.pop(0), x)
        else:
            x = layer(x)
    return x


def _only_scales(norm: nn.Module) -> bool:
    return type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm) and not norm.training and bool(norm.affine) \
        and norm.running_mean is not None and not _has_hooks(norm)


def _is_plain(conv: nn.Module) -> bool:
    """A subclass may do something else with its weight, and so may a parametrisation."""
    return type(conv) is nn.Conv2d and conv.padding_mode == 'zeros' and not _has_hooks(conv)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
                or module._backward_pre_hooks)
