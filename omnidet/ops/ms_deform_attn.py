"""Multi-scale deformable attention (arXiv:2010.04159, equation 3): the sampling and the weighted sum.

Letters: B images, S cells of all levels one after another, M heads, D channels of a head, Q queries, L levels,
P points of a level.

With the environment variable OMNIDET_TRITON=1, read once when this module is imported, tensors on a CUDA device go to
the Triton kernels of `ops/ms_deform_attn_triton.py`. They are off otherwise: they were held against the forms below in
Triton's interpreter only, and never ran on a GPU. `python benchmarks/ms_deform_attn.py` says whether they win on yours.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = Sequence[tuple[int, int]]

FUSED = os.environ.get('OMNIDET_TRITON') == '1'
"""Whether tensors on a CUDA device go to the Triton kernels."""

if FUSED and importlib.util.find_spec('triton') is None:
    warnings.warn('OMNIDET_TRITON is 1, but triton is not installed, so its kernels are not used', stacklevel=2)
    FUSED = False
if FUSED:
    from omnidet.ops import ms_deform_attn_triton


def ms_deform_attn(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """For each query and head, the weighted sum of values sampled bilinearly at points on all levels.

    A level spans 0..1 with cells centred at (i + 0.5) / size; outside of it values are 0.

    Args:
        value: (B, S, M, D), the levels' cells row by row.
        shapes: (h, w) of each level; h * w add up to S.
        locations: (B, Q, M, L, P, 2), x and y in 0..1 of the level.
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * D).
    """
    if FUSED and value.is_cuda and ms_deform_attn_triton.suits(value, shapes):
        return ms_deform_attn_triton.fused(value, shapes, locations, weights)
    core = _by_rows if value.device.type == 'cpu' else _by_grids
    return core(value, shapes, locations, weights)


def _by_grids(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Each level sampled as an image, and summed before the next, so that one level's samples exist at a time.

    In float32 at least: bfloat16 tells 256 places of a row apart, where a level has a hundred cells.
    """
    B, _, M, D = value.shape
    Q, P = locations.shape[1], locations.shape[4]
    dtype = torch.promote_types(value.dtype, torch.float32)
    locations, weights = locations.to(dtype), weights.to(dtype)
    out = value.new_zeros((), dtype=dtype)
    levels = value.split([h * w for h, w in shapes], 1)
    for i, ((h, w), level) in enumerate(zip(shapes, levels, strict=True)):
        image = level.permute(0, 2, 3, 1).reshape(B * M, D, h, w).to(dtype)
        grid = 2 * locations[:, :, :, i].transpose(1, 2).reshape(B * M, Q, P, 2) - 1
        sampled = F.grid_sample(image, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
        weight = weights[:, :, :, i].transpose(1, 2).reshape(B * M, 1, Q, P)
        out = out + (sampled * weight).sum(-1)    # (B * M, D, Q)
    return out.view(B, M * D, Q).transpose(1, 2).to(value.dtype)


def _by_rows(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The same as one bag of 4 L P rows of a table for each query and head: no sample is ever stored.

    A row holds the D channels of a head at a cell side by side, which is what a processor's cache likes: three times as
    fast as sampling images on a CPU.
    """
    B, S, M, D = value.shape
    Q, device = locations.shape[1], value.device
    dtype = torch.promote_types(value.dtype, torch.float32)
    locations, weights = locations.to(dtype), weights.to(dtype)
    size = torch.tensor([(w, h) for h, w in shapes], dtype=dtype, device=device)[:, None]    # (L, 1, 2)
    starts = [0]
    for h, w in shapes:
        starts.append(starts[-1] + h * w)
    first = torch.tensor(starts[:-1], dtype=torch.int32, device=device)[:, None] * M    # (L, 1)
    first = first + torch.arange(M, dtype=torch.int32, device=device)[:, None, None]    # (M, L, 1)
    first = first + torch.arange(B, dtype=torch.int32, device=device)[:, None, None, None, None] * (S * M)

    columns, column_shares = _neighbours(locations[..., 0], size[..., 0])
    lines, line_shares = _neighbours(locations[..., 1], size[..., 1])
    width = size[..., 0].to(torch.int32)
    rows, row_weights = [], []
    for y, share_y in zip(lines, line_shares, strict=True):
        start, share_y = y * width * M + first, share_y * weights
        for x, share_x in zip(columns, column_shares, strict=True):
            rows.append(start + x * M)
            row_weights.append(share_x * share_y)
    out = F.embedding_bag(torch.stack(rows, -1).view(B * Q * M, -1), value.to(dtype).reshape(B * S * M, D),
                          mode='sum', per_sample_weights=torch.stack(row_weights, -1).view(B * Q * M, -1))
    return out.view(B, Q, M * D).to(value.dtype)


def _neighbours(location: Tensor, size: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The two cells of a row nearest to a location in 0..1 of it, as int32, and what each counts for: 0 outside."""
    position = location * size - 0.5
    low = position.detach().floor()
    share = position - low
    cells, shares = [], []
    for cell, part in ((low, 1 - share), (low + 1, share)):
        inside = (cell >= 0) & (cell < size)    # False where the location is not a number
        cells.append(torch.where(inside, cell, 0).to(torch.int32))
        shares.append(part * inside)
    return cells, shares
