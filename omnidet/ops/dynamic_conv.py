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
    widths = [channels + 2, *[width] * (layers - 1), 1]
    return list(pairwise(widths))


def dynamic_mask_logits(feats: Tensor, params: Tensor, coordinates: tuple[Tensor, Tensor],
                        sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Masks of instances by networks of their own over shared features (CondInst, arXiv:2003.05664, section 3).

    A pixel's input is where it lies as the instance sees it, then its features. All layers but the last end in a ReLU.

    Args:
        feats: (M, C, h, w), the features of each instance's image; (1, C, h, w) where all lie in one image.
        params: (M, P), each instance's weights of all layers, (outputs, inputs) row by row, then all biases.
        coordinates: x (M, w) and y (M, h) of the pixels.
        sizes: (inputs, outputs) of each layer; see `dynamic_sizes`.

    Returns:
        (M, h, w) logits.
    """
    M, (h, w) = len(params), feats.shape[-2:]
    cuts = [i * o for i, o in sizes] + [o for _, o in sizes]
    parts = params.split(cuts, 1)
    weights, biases = parts[:len(sizes)], parts[len(sizes):]
    first, rest = weights[0].view(M, sizes[0][1], sizes[0][0]).split([2, sizes[0][0] - 2], 2)
    # The coordinates differ by instance, but are no maps: a column of x and a row of y are added where a
    # convolution over them would write (M, 2, h, w).
    x, y = (first[:, :, n, None] * c[:, None] for n, c in enumerate(coordinates))    # (M, O, w), (M, O, h)
    y = y + biases[0][..., None]
    shared = torch.einsum('moc,chw->mohw', rest, feats[0]) if len(feats) == 1 else (rest @ feats.flatten(2)).view(
        M, -1, h, w)
    out = (shared + (x[:, :, None] + y[..., None])).flatten(2)    # (M, O, h * w)
    for (i, o), weight, bias in zip(sizes[1:], weights[1:], biases[1:], strict=True):
        out = torch.baddbmm(bias[..., None], weight.view(M, o, i), out.relu())
    return out.view(M, h, w)
