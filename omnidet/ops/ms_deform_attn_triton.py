"""Multi-scale deformable attention on a GPU, as one Triton kernel for each direction.

Nothing is stored but the output: samples live in registers. `ops/ms_deform_attn.py` is the definition; it imports this
module where the environment variable OMNIDET_TRITON is 1. That is not the default: the kernels have been held against
the definition in Triton's interpreter only, and compiled for an H100, but never ran on a GPU, as none was at hand.
`benchmarks/ms_deform_attn.py` holds and measures them on yours.

A program takes a block of queries of one head of one image. The D channels of a head lie side by side in (B, S, M, D):
neighbouring threads read neighbouring addresses, and in the backward pass add to them. Sums are taken in float32. The
gradient of the values is a sum of atomic additions, whose order differs from run to run, as that of PyTorch's own does.

Letters: B images, S cells of all levels one after another, M heads, D channels of a head, Q queries, L levels,
P points of a level.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'

CONFIGS = [triton.Config({'BLOCK': block}, num_warps=warps, num_stages=1)
           for block, warps in ((32, 4), (16, 2), (64, 4))]
"""Queries of a program. At D = 32 a thread has 8 or 16 channels of them, which it reads 16 bytes at a time."""


def _bits(levels: int) -> int:
    """Bits of a level's height or width: those of all levels travel in 62 bits of one number."""
    return min(31, 62 // levels)


def suits(value: Tensor, shapes: Sequence[tuple[int, int]]) -> bool:
    """Whether the kernels take such values (B, S, M, D) and (h, w) of levels."""
    return (value.dtype in (torch.float32, torch.float16, torch.bfloat16)
            and max(max(shape) for shape in shapes) < 1 << _bits(len(shapes)))


def fused(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """The same as `ms_deform_attn`, for tensors of which `suits` says so."""
    sizes = [size for shape in shapes for size in shape]
    return torch.ops.omnidet.ms_deform_attn(value, sizes, locations, weights)


@functools.cache
def _tuned(kernel: Any, restored: tuple[str, ...]) -> Any:
    """The kernel with the fastest of `CONFIGS` for each kind of call, found at its first; the device waits only then.

    Made late, as some releases of Triton look for a GPU at once. Tensors that a kernel adds to are restored after each
    trial: reset to zero before it, the last trial's sum would stay in other releases.
    """
    return triton.autotune(CONFIGS, key=['M', 'D', 'L', 'P'], restore_value=list(restored))(kernel)


@triton.jit
def _size(packed, level, BITS: tl.constexpr):
    """One size of a level, out of those of all levels in one number."""
    return ((packed >> (level * BITS)) & ((1 << BITS) - 1)).to(tl.int32)


@triton.jit
def _position(locations, size, live):
    """The cell before each location, as float32, and how far the location is from it to the next one."""
    at = tl.load(locations, live, 0.0).to(tl.float32) * size - 0.5
    low = tl.floor(at)
    return low, at - low


@triton.jit
def _cell(x, y, w, h):
    """Which cell of its level (x, y) is, and whether it is one; False where the location is not a number."""
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    cell = tl.where(inside, y, 0.0).to(tl.int32) * w + tl.where(inside, x, 0.0).to(tl.int32)
    return cell, inside


@triton.jit(do_not_specialize=['S', 'Q', 'heights', 'widths'])
def _forward(value, locations, weights, out, S, Q, heights, widths, M: tl.constexpr, D: tl.constexpr, L: tl.constexpr,
             P: tl.constexpr, BITS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    b, m = (tl.program_id(1) // M).to(tl.int64), tl.program_id(1) % M
    q, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDTH)[None, :]
    live = q < Q
    head = (b * Q + q) * M + m    # (BLOCK,)
    table = value + (b * S * M + m) * D + d    # (1, WIDTH), the head's channels in cell 0
    total = tl.zeros([BLOCK, WIDTH], tl.float32)
    start = 0
    for level in range(L):
        h, w = _size(heights, level, BITS), _size(widths, level, BITS)
        for p in tl.static_range(P):
            point = (head * L + level) * P + p
            weight = tl.load(weights + point, live, 0.0).to(tl.float32)
            x, x_part = _position(locations + 2 * point, w, live)
            y, y_part = _position(locations + 2 * point + 1, h, live)
            for corner in tl.static_range(4):
                i, j = corner % 2, corner // 2
                cell, inside = _cell(x + i, y + j, w, h)
                share = (1 - i + (2 * i - 1) * x_part) * (1 - j + (2 * j - 1) * y_part)
                mask = (inside & live)[:, None] & (d < D)
                row = tl.load(table + ((start + cell) * (M * D))[:, None], mask, 0.0).to(tl.float32)
                total += (weight * share)[:, None] * row
        start += h * w
    tl.store(out + (head * D)[:, None] + d, total, live[:, None] & (d < D))


@triton.jit(do_not_specialize=['S', 'Q', 'heights', 'widths'])
def _backward(grad, value, locations, weights, grad_value, grad_locations, grad_weights, S, Q, heights, widths,
              M: tl.constexpr, D: tl.constexpr, L: tl.constexpr, P: tl.constexpr, BITS: tl.constexpr,
              WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    b, m = (tl.program_id(1) // M).to(tl.int64), tl.program_id(1) % M
    q, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDTH)[None, :]
    live = q < Q
    head = (b * Q + q) * M + m    # (BLOCK,)
    table = (b * S * M + m) * D + d    # (1, WIDTH)
    g = tl.load(grad + (head * D)[:, None] + d, live[:, None] & (d < D), 0.0).to(tl.float32)
    start = 0
    for level in range(L):
        h, w = _size(heights, level, BITS), _size(widths, level, BITS)
        for p in tl.static_range(P):
            point = (head * L + level) * P + p
            weight = tl.load(weights + point, live, 0.0).to(tl.float32)
            x, x_part = _position(locations + 2 * point, w, live)
            y, y_part = _position(locations + 2 * point + 1, h, live)
            of_x, of_y, of_weight = x_part * 0, x_part * 0, x_part * 0
            for corner in tl.static_range(4):
                i, j = corner % 2, corner // 2
                cell, inside = _cell(x + i, y + j, w, h)
                x_share, y_share = 1 - i + (2 * i - 1) * x_part, 1 - j + (2 * j - 1) * y_part
                mask = (inside & live)[:, None] & (d < D)
                at = table + ((start + cell) * (M * D))[:, None]
                row = tl.load(value + at, mask, 0.0).to(tl.float32)
                tl.atomic_add(grad_value + at, (weight * x_share * y_share)[:, None] * g, mask, sem='relaxed')
                match = tl.sum(g * row, 1)    # 0 outside, where row is
                of_weight += x_share * y_share * match
                of_x += (2 * i - 1) * y_share * match
                of_y += (2 * j - 1) * x_share * match
            tl.store(grad_weights + point, of_weight, live)
            tl.store(grad_locations + 2 * point, of_x * weight * w, live)
            tl.store(grad_locations + 2 * point + 1, of_y * weight * h, live)
        start += h * w


def _launch(kernel: Any, tensors: Sequence[Tensor], value: Tensor, sizes: Sequence[int], weights: Tensor,
            restored: tuple[str, ...] = ()) -> None:
    """Runs a kernel over blocks of queries, and heads of images.

    Sizes travel as two numbers: a tensor of them would be copied to the device, which waits for the copy. Their highest
    bit makes Triton take them for int64, whatever the sizes.
    """
    (B, S, M, D), (Q, _, L, P) = value.shape, weights.shape[1:]
    heights, widths = (sum((n << i * _bits(L) for i, n in enumerate(sizes[k::2])), 1 << 62) for k in (0, 1))
    options = dict(M=M, D=D, L=L, P=P, BITS=_bits(L), WIDTH=triton.next_power_of_2(D))
    if INTERPRETED:    # nothing to measure
        options.update(CONFIGS[0].kwargs)
    else:
        kernel = _tuned(kernel, restored)
    with torch.cuda.device_of(value):    # Triton launches on the current device
        kernel[lambda meta: (triton.cdiv(Q, meta['BLOCK']), B * M)](*tensors, S, Q, heights, widths, **options)


@torch.library.custom_op('omnidet::ms_deform_attn', mutates_args=())
def _attend(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
    out = value.new_empty(*weights.shape[:2], value.shape[2] * value.shape[3])
    _launch(_forward, (value, locations, weights, out), value, sizes, weights)
    return out


@_attend.register_fake
def _(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(*weights.shape[:2], value.shape[2] * value.shape[3])


@torch.library.custom_op('omnidet::ms_deform_attn_backward', mutates_args=())
def _attend_backward(grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor,
                     weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inputs = [t.contiguous() for t in (value, locations, weights)]
    grads = value.new_zeros(value.shape, dtype=torch.float32), *(t.new_empty(t.shape) for t in inputs[1:])
    _launch(_backward, (grad.contiguous(), *inputs, *grads), value, sizes, weights, ('grad_value',))
    return grads[0].to(value.dtype), grads[1], grads[2]


@_attend_backward.register_fake
def _(grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor,
      weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), locations.new_empty(locations.shape), weights.new_empty(weights.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    value, locations, weights = ctx.saved_tensors
    of_value, of_locations, of_weights = torch.ops.omnidet.ms_deform_attn_backward(
        grad, value, ctx.sizes, locations, weights)
    return of_value, None, of_locations, of_weights


_attend.register_autograd(_grad, setup_context=_save)
