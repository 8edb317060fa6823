"""Weights of Swin transformers under our names: Microsoft's release, and timm's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

TABLE, INDEX = 'relative_position_bias_table', 'relative_position_index'

NAMES = (
    (r'^layers\.', 'stages.'), (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'\.attn\.', '.attn.w_msa.'), (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'), (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)


def convert_swin(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the names and shapes of our `SwinTransformer`.

    The release has `layers` where we have `stages`, and its classifier is left out. Its merging of patches lays four
    neighbours one after another, channels within (top left, bottom left, top right, bottom right); ours lays the
    neighbours within each channel, row by row, so the weights after it change their order. timm has the merging at
    the beginning of a stage, not at the end. Bias tables of another window size are resized, as the paper does
    (arXiv:2103.14030, section 3.2), and position embeddings take the shape of a map.

    Args:
        state: names and tensors, of the release, of timm, or ours already.
        own: what the model has.
    """
    if any(k.startswith('layers.') for k in state):
        state = _renamed(state)
    out = {k: v for k, v in state.items() if not k.endswith((INDEX, 'attn_mask'))}
    for name, value in own.items():
        if name.endswith(INDEX):    # a function of the window size, not a weight
            out[name] = value
        elif name.endswith(TABLE) and name in out:
            out[name] = resize_table(out[name], len(value))
        elif name == 'absolute_pos_embed' and name in out and out[name].ndim == 3:
            side = math.isqrt(out[name].shape[1])
            out[name] = out[name].reshape(1, side, -1, out[name].shape[2]).permute(0, 3, 1, 2)
    return out


def resize_table(table: Tensor, length: int) -> Tensor:
    """The biases of the offsets in one square window -> those in another: ((2a - 1)^2, M) -> (length, M), bicubic."""
    a, b, M = math.isqrt(len(table)), math.isqrt(length), table.shape[1]
    if a == b or a * a != len(table) or b * b != length:
        return table
    square = table.T.reshape(1, M, a, a)
    return F.interpolate(square, (b, b), mode='bicubic').reshape(M, length).T.contiguous()


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    merged_first = not any(k.startswith('layers.0.downsample.') for k in state)    # timm
    out = {}
    for name, value in state.items():
        if name.startswith(('head.', 'norm.')):
            continue
        if '.downsample.' in name:
            value = merging_order(value)
            if merged_first:
                name = re.sub(r'^layers\.(\d+)', lambda m: f'layers.{int(m[1]) - 1}', name)
        for pattern, ours in NAMES:
            name = re.sub(pattern, ours, name)
        out[name] = value
    return out


def to_timm_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our Swin's weights with timm's names, which has the merging of patches at the beginning of a stage."""
    out = {}
    for name, value in state.items():
        if '.downsample.' in name:
            value = neighbour_order(value)
            name = re.sub(r'^stages\.(\d+)', lambda m: f'stages.{int(m[1]) + 1}', name)
        name = re.sub(r'^norm\d\.', 'norm.', name)
        for pattern, ours in NAMES:
            theirs = pattern.removeprefix('^').replace('\\', '')
            name = re.sub(('^' if pattern.startswith('^') else '') + re.escape(ours), theirs, name)
        out[name] = value
    return out


def neighbour_order(value: Tensor) -> Tensor:
    """The reverse of `merging_order`."""
    return value.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :].flatten(-2)


def merging_order(value: Tensor) -> Tensor:
    """(..., 4C) from neighbour by neighbour, column by column, to channel by channel, neighbours row by row."""
    parts = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return parts.transpose(-1, -2).flatten(-2)
