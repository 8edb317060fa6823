"""Attention within windows of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError

FORBIDDEN = -100.0
"""What is added to a logit between pixels that may not see each other."""


class WindowMSA(nn.Module):
    """Self-attention within each window, with a learned bias for every offset between two pixels (arXiv:2103.14030).

    Parameters: relative_position_bias_table, qkv, proj; buffer: relative_position_index.

    Args:
        embed_dims: C.
        num_heads: M; it divides C.
        window_size: (h, w) of a window in pixels; a window has S = h * w of them.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the products of queries and keys; (C / M)^-0.5 where None.
        attn_drop_rate: the probability that an attention weight is dropped.
        proj_drop_rate: the probability that an output is dropped.
    """

    def __init__(self, embed_dims: int, num_heads: int, window_size: tuple[int, int], qkv_bias: bool = True,
                 qk_scale: float | None = None, attn_drop_rate: float = 0.0, proj_drop_rate: float = 0.0) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ConfigError(f'WindowMSA: num_heads {num_heads} does not divide embed_dims {embed_dims}')
        h, w = window_size
        self.num_heads, self.scale, self.attn_drop = num_heads, qk_scale, attn_drop_rate
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * h - 1) * (2 * w - 1), num_heads))
        self.relative_position_index: Tensor
        self.register_buffer('relative_position_index', relative_position_index(h, w))
        self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop_rate)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the pixels of each window.

        Args:
            x: (B, nW, S, C), the windows of each image.
            mask: (nW, 1, S, S), added to the logits; None where all pixels of a window see each other.

        Returns:
            (B, nW, S, C).
        """
        B, W, S, C = x.shape
        M = self.num_heads
        qkv = self.qkv(x).reshape(B, W, S, 3, M, C // M).permute(3, 0, 1, 4, 2, 5)    # (3, B, nW, M, S, C / M)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.reshape(S, S, M).permute(2, 0, 1)[None]    # (1, M, S, S)
        if mask is None:
            q, k, v = qkv.reshape(3, B * W, M, S, C // M)
        else:    # windows differ in what they see, images do not: let windows lie along the heads
            q, k, v = qkv.reshape(3, B, W * M, S, C // M)
            bias = (bias + mask).reshape(1, W * M, S, S)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=self.scale,
                                             dropout_p=self.attn_drop if self.training else 0.0)
        out = out.reshape(B, W, M, S, C // M).transpose(2, 3).reshape(B, W, S, C)
        return self.proj_drop(self.proj(out))


class ShiftWindowMSA(nn.Module):
    """`WindowMSA` over the windows of a map, whose grid may be shifted (arXiv:2103.14030, section 3.2).

    Parameters: w_msa.

    Args:
        window_size: side of a window in pixels.
        shift_size: by how many pixels the grid is shifted up and left; less than `window_size`.
        The others: see `WindowMSA`.
    """

    def __init__(self, embed_dims: int, num_heads: int, window_size: int, shift_size: int = 0, qkv_bias: bool = True,
                 qk_scale: float | None = None, attn_drop_rate: float = 0.0, proj_drop_rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= shift_size < window_size:
            raise ConfigError(f'ShiftWindowMSA: shift_size {shift_size} must lie in 0 to {window_size - 1}')
        self.window_size, self.shift_size = window_size, shift_size
        self.w_msa = WindowMSA(embed_dims, num_heads, (window_size, window_size), qkv_bias, qk_scale, attn_drop_rate,
                               proj_drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), of any H and W: the map is padded with zeros that take part."""
        H, W = x.shape[1:3]
        size, shift = self.window_size, self.shift_size
        x = F.pad(x, (0, 0, 0, -W % size, 0, -H % size))
        padded = x.shape[1], x.shape[2]
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
        mask = shift_mask(padded, size, shift, x.device) if shift else None
        x = from_windows(self.w_msa(to_windows(x, size), mask), size, padded)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return x[:, :H, :W]


def to_windows(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B, nW, size * size, C), row by row; `size` divides H and W."""
    B, H, W, C = x.shape
    x = x.reshape(B, H // size, size, W // size, size, C).transpose(2, 3)
    return x.reshape(B, (H // size) * (W // size), size * size, C)


def from_windows(x: Tensor, size: int, shape: tuple[int, int]) -> Tensor:
    """The inverse of `to_windows`: (B, nW, size * size, C) -> (B, H, W, C) with `shape` (H, W)."""
    (H, W), C = shape, x.shape[-1]
    return x.reshape(-1, H // size, W // size, size, size, C).transpose(2, 3).reshape(-1, H, W, C)


def shift_mask(shape: tuple[int, int], size: int, shift: int, device: torch.device) -> Tensor:
    """What keeps apart the pixels that a cyclic shift has brought into one window from opposite borders.

    Args:
        shape: (H, W) of the map, multiples of `size`.
        size, shift: of the windows.

    Returns:
        (nW, 1, S, S) float: 0, or `FORBIDDEN` between pixels that were not neighbours before.
    """
    rows, columns = ((torch.arange(n, device=device) >= n - shift).long() for n in shape)
    part = rows[:, None] * 2 + columns    # (H, W); within one window only the last `shift` rows have come from the top
    part = to_windows(part[None, :, :, None], size)[0, :, :, 0]    # (nW, S)
    return ((part[:, None, :] != part[:, :, None]) * FORBIDDEN)[:, None]


def relative_position_index(h: int, w: int) -> Tensor:
    """(S, S) int64: the row of the bias table for the offset from each pixel of an (h, w) window to each other one."""
    y, x = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
    dy, dx = y[:, None] - y + h - 1, x[:, None] - x + w - 1
    return dy * (2 * w - 1) + dx
