"""Convolutions of 1 x 1 whose kernels are predicted, one small network for each instance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def dynamic_sizes(channels: int, width: int, layers: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of the layers of an instance's network, which ends in one logit.

    Args:
        channels: of the mask features; two coordinates come before them.
        width: channels between the layers.
        layers: how many there are.
    """
    return list(pairwise([channels + 2, *[width] * (layers - 1), 1]))


def dynamic_mask_logits(feats: Tensor, params: Tensor, coordinates: tuple[Tensor, Tensor],
                        sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Masks of instances by networks of their own over shared features (CondInst, arXiv:2003.05664, section 3).

    A pixel's input is where it lies as the instance sees it, x and y, then its features. All layers but the last end
    in a ReLU.

    Args:
        feats: (B, C, h, w).
        params: (B, P, L), each instance's weights of all layers, (outputs, inputs) row by row, then all biases.
        coordinates: x (B, P, w) and y (B, P, h) of the pixels.
        sizes: (inputs, outputs) of each layer; see `dynamic_sizes`.

    Returns:
        (B, P, h, w) logits.
    """
    (B, C, h, w), P = feats.shape, params.shape[1]
    parts = params.flatten(0, 1).split([i * o for i, o in sizes] + [o for _, o in sizes], 1)
    weights, biases = parts[:len(sizes)], parts[len(sizes):]
    O = sizes[0][1]
    first = weights[0].view(B, P, O, C + 2)
    # The coordinates differ by instance but are no maps: a row of x and a column of y are added, where a convolution
    # over them would need (B, P, 2, h, w).
    x, y = (first[..., n, None] * c[:, :, None] for n, c in enumerate(coordinates))    # (B, P, O, w), (B, P, O, h)
    y = y + biases[0].view(B, P, O, 1)
    shared = (first[..., 2:].reshape(B, P * O, C) @ feats.flatten(2)).view(B, P, O, h, w)
    out = (shared + (x[..., None, :] + y[..., None])).view(B * P, O, h * w)
    for (i, o), weight, bias in zip(sizes[1:], weights[1:], biases[1:], strict=True):
        out = torch.baddbmm(bias[..., None], weight.reshape(-1, o, i), out.relu())
    return out.view(B, P, h, w)
