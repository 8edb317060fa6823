"""The weights of bins that average bilinear samples, as RoIAlign and its kin do.

The samples of a bin lie on a grid, so what it computes is a weighted sum over rows times a weighted sum over columns:
`out[p, q] = sum_yx Wy[p, y] * Wx[q, x] * feat[y, x]`. Most weights are zero; the others are listed here.

Letters: M regions, P bins along an axis, S samples of a bin along an axis, T taps (pixels that a bin reads along it).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Taps(NamedTuple):
    """What the bins of each region read along one axis.

    Attributes:
        pixel: (M, P, T) int32, always inside the map.
        weight: (M, P, T) float.
        used: (M, P) int64, how many of the taps count.
    """

    pixel: Tensor
    weight: Tensor
    used: Tensor


def axis_taps(start: Tensor, extent: Tensor, bins: int, length: int, sampling_ratio: int) -> Taps:
    """The taps of regions that begin at `start` (M,), divided into `bins`, along an axis of `length` pixels."""
    at, valid, samples = axis_samples(start, extent, bins, length, sampling_ratio)    # (M, P, S), (M, P, S), (M,)
    valid = valid & (at >= -1) & (at <= length)
    share = valid / samples.clamp(min=1)[:, None, None]
    low = at.detach().clamp(0, max(length - 2, 0)).floor()
    part = at.clamp(0, length - 1) - low
    low = low.int()
    first, last = low.amin(2, keepdim=True), low.amax(2, keepdim=True)
    # samples close together read a run of pixels, samples far apart two pixels each
    as_run, as_pairs = last - first + 2, 2 * samples.int()[:, None, None]
    run = as_run <= as_pairs
    used = torch.where(run, as_run, as_pairs) * valid.any(2, keepdim=True)    # (M, P, 1)
    T = max(2, _greatest(used))
    steps = torch.arange(max(T, low.shape[2]), dtype=torch.int32, device=start.device)
    slot = torch.where(run, low - first, 2 * steps[:low.shape[2]]).clamp(max=T - 2).long()
    weight = start.new_zeros(*low.shape[:2], T)
    weight = weight.scatter_add(2, slot, (1 - part) * share).scatter_add(2, slot + 1, part * share)
    pairs = F.pad(torch.stack([low, low + 1], 3).flatten(2), (0, T))[..., :T]
    pixel = torch.where(run, first + steps[:T], pairs).clamp(max=length - 1)
    return Taps(pixel, weight, used.squeeze(2).long())


def axis_samples(start: Tensor, extent: Tensor, bins: int, length: int,
                 sampling_ratio: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the samples lie along one axis.

    Returns:
        at: (M, P, S) position in pixels; S is the most that any bin has near the map.
        valid: (M, P, S) bool, False past a bin's own number of samples.
        samples: (M,) float, the number that the sum of a bin is divided by.
    """
    size = extent / bins
    samples = torch.full_like(start, sampling_ratio) if sampling_ratio > 0 else size.detach().ceil()
    samples = samples.nan_to_num(0).clamp(0, 1 << 24)
    divisor = samples.clamp(min=1)
    # adaptive samples are at least half a pixel apart, so that no more of them lie near the map
    S = max(1, min(_greatest(samples), sampling_ratio or 2 * length + 8))
    count = torch.arange(max(S, bins), dtype=start.dtype, device=start.device)
    begin = start[:, None] + count[:bins] * size[:, None]    # (M, P)
    skip = ((-1 - begin.detach()) / (size.detach() / divisor)[:, None]).nan_to_num(0).floor() - 1
    ordinal = skip.minimum((samples - S)[:, None]).clamp(min=0)[..., None] + count[:S]    # (M, P, S)
    last = (samples - 1).clamp(min=0)[:, None, None]
    at = begin[..., None] + (ordinal.minimum(last) + 0.5) * size[:, None, None] / divisor[:, None, None]
    return at.nan_to_num(-2), ordinal < samples[:, None, None], samples


def _greatest(values: Tensor) -> int:
    return int(values.max()) if values.numel() else 0


class Reads(NamedTuple):
    """Which pixels the bins of some regions add up: bin `i` those from `offsets[i]` to `offsets[i + 1]`.

    Attributes:
        pixel: (E,) int32 index into the rows (image, y, x) of the map.
        weight: (E,) float.
        offsets: (M * h * w + 1,) int32.
    """

    pixel: Tensor
    weight: Tensor
    offsets: Tensor


def list_reads(image: Tensor, y: Taps, x: Taps, H: int, W: int) -> Reads:
    """Multiply out the taps of both axes, for regions on `image` (M,) of a map of (H, W) pixels."""
    def count(n: int) -> Tensor:
        return torch.arange(n, dtype=torch.int32, device=image.device)

    M, h, T = y.weight.shape
    w = x.weight.shape[1]
    # lines: what a bin reads of one row of the map, (M, h, w, T) with the unused left out
    is_used = (count(T) < y.used[..., None])[:, :, None].expand(M, h, w, T).reshape(-1)
    tap = count(M * h * T).view(M, h, 1, T).expand(M, h, w, T).reshape(-1)[is_used]
    bin_x = count(M * w).view(M, 1, w, 1).expand(M, h, w, T).reshape(-1)[is_used]
    row = _pick((y.pixel + image.int().view(M, 1, 1) * H) * W, tap)
    width = _pick(x.used, bin_x)
    ends = width.cumsum(0)
    E = int(ends[-1]) if len(ends) else 0
    line = count(len(width)).repeat_interleave(width, output_size=E)
    begin = (bin_x * x.weight.shape[2] - (ends - width)).int()
    source = _pick(begin, line) + count(E)    # (E,) index into the taps of x
    bins = (y.used[:, :, None] * x.used[:, None]).view(-1).cumsum(0).int()
    return Reads(_pick(row, line) + _pick(x.pixel, source),
                 _pick(_pick(y.weight, tap), line) * _pick(x.weight, source), F.pad(bins, (1, 0)))


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """`values`, flat, at `index` (E,) int32; indexing by brackets would make int64 of it first."""
    return values.reshape(-1).index_select(0, index)


def weighted_sums(rows: Tensor, reads: Reads) -> Tensor:
    """(N, C): for each of the N bins of `reads`, the weighted sum of the `rows` (R, C) that it lists."""
    return F.embedding_bag(reads.pixel, rows, reads.offsets, mode='sum', per_sample_weights=reads.weight,
                           include_last_offset=True)


def transposed(reads: Reads, R: int) -> Reads:
    """For each of R pixels the bins that read it, in the order of the bins: the sum is the same every time."""
    pixel, order = torch.sort(reads.pixel, stable=True)
    bins = torch.arange(len(reads.offsets) - 1, dtype=torch.int32).repeat_interleave(reads.offsets.diff())
    offsets = torch.searchsorted(pixel, torch.arange(R + 1, dtype=torch.int32), out_int32=True)
    return Reads(_pick(bins, order), _pick(reads.weight, order), offsets)
