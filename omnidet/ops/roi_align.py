"""RoIAlign (arXiv:1703.06870) by separable weights.

A bin of RoIAlign averages bilinear samples that lie on a grid, so it is a weighted sum over rows times a weighted sum
over columns: `out[m, :, p, q] = sum_yx Wy[m, p, y] * Wx[m, q, x] * feat[image, :, y, x]`. Most weights are zero. The
others are listed here, and one `embedding_bag` adds up the pixels of every bin; the backward pass is the same sum over
the transposed list. Values are those of `torchvision.ops.roi_align`.

Letters: M regions, P bins along an axis, S samples of a bin along an axis, T taps (pixels that a bin reads along it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 1 << 22
"""Entries of the list of (bin, pixel, weight) that are made at a time: it bounds the memory."""


def roi_align(feat: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float = 1.0,
              sampling_ratio: int = 0, aligned: bool = True, pool_mode: str = 'avg') -> Tensor:
    """Pool each region of a feature map to a grid of bins, by bilinear samples.

    Args:
        feat: (B, C, H, W) float; contiguous or channels_last.
        rois: (M, 5) image index, x1, y1, x2, y2 in pixels of the input image.
        output_size: (h, w) bins, or one number for both.
        spatial_scale: pixels of `feat` for one pixel of the input image.
        sampling_ratio: samples of a bin along each axis; 0 takes as many as the bin has pixels, rounded up.
        aligned: shift by half a pixel, so that pixel centres lie at integers; without it a region also measures at
            least one pixel of `feat`, as first published.
        pool_mode: 'avg', or 'max' over the samples of a bin.

    Returns:
        (M, C, h, w) in the type of `feat`, computed in float32 at least. Differentiable in `feat`. Samples farther
        than one pixel outside the map count as 0.

    Raises:
        ValueError: `pool_mode` is another word.
    """
    if pool_mode not in ('avg', 'max'):
        raise ValueError(f"roi_align: pool_mode={pool_mode!r} is not one of 'avg', 'max'")
    h, w = (output_size, output_size) if isinstance(output_size, int) else output_size
    exact = torch.promote_types(feat.dtype, torch.float32)
    if pool_mode == 'max':
        out = _max_align(feat.to(exact), rois.to(exact), h, w, spatial_scale, sampling_ratio, aligned)
    elif feat.device.type in ('cpu', 'meta'):
        out = torch.ops.omnidet.roi_align(feat.to(exact), rois.to(exact), h, w, spatial_scale, sampling_ratio, aligned)
    else:
        out = torchvision.ops.roi_align(feat.to(exact), rois.to(exact), (h, w), spatial_scale, sampling_ratio, aligned)
    return out.to(feat.dtype)


def separable_weights(start: Tensor, extent: Tensor, bins: int, length: int, sampling_ratio: int = 0,
                      first: Tensor | None = None, count: int | None = None) -> Tensor:
    """The weights with which RoIAlign's bins average the pixels along one axis.

    The whole of RoIAlign is `Wy @ feat @ Wx.mT` for `Wy` and `Wx` from here.

    Args:
        start: (M,) float, where each region begins; pixel centres lie at integers (aligned: `y1 * scale - 0.5`).
        extent: (M,) float, how long it is (`y2 * scale - y1 * scale`).
        bins: P, into how many bins the region is divided.
        length: pixels of the map along this axis; beyond its border by more than one pixel, weights are 0.
        sampling_ratio: samples of a bin; 0 takes as many as the bin has pixels, rounded up.
        first: (M,) int64, the first pixel of a window to give the weights for; weights of pixels outside it are
            dropped. 0 by default.
        count: pixels of that window; `length` by default.

    Returns:
        (M, P, count) in the type of `start`.
    """
    taps = _taps(start, extent, bins, length, sampling_ratio)
    count = length if count is None else count
    place = taps.pixel if first is None else taps.pixel - first[:, None, None]
    inside = (place >= 0) & (place < count)
    weights = start.new_zeros(len(start), bins, count)
    return weights.scatter_add_(2, place.clamp(0, max(count - 1, 0)), taps.weight * inside)


class _Taps(NamedTuple):
    """What the bins of each region read along one axis.

    Attributes:
        pixel: (M, P, T) int32, always inside the map.
        weight: (M, P, T) float.
        used: (M, P) int64, how many of the taps count.
    """

    pixel: Tensor
    weight: Tensor
    used: Tensor


def _taps(start: Tensor, extent: Tensor, bins: int, length: int, sampling_ratio: int) -> _Taps:
    """The taps of regions that begin at `start` (M,), divided into `bins`, along an axis of `length` pixels."""
    at, valid, samples = _samples(start, extent, bins, length, sampling_ratio)    # (M, P, S), (M, P, S), (M,)
    valid = valid & (at >= -1) & (at <= length)
    low = at.clamp(0, max(length - 2, 0)).floor()
    part = at.clamp(0, length - 1) - low
    share = valid / samples.clamp(min=1)[:, None, None]
    low = low.int()
    first, last = low.amin(2, keepdim=True), low.amax(2, keepdim=True)
    # samples close together read a run of pixels, samples far apart two pixels each
    near, far = last - first + 2, 2 * samples.int()[:, None, None]
    run = near <= far
    count = torch.where(run, near, far) * valid.any(2, keepdim=True)    # (M, P, 1)
    T = max(int(count.max()), 2)
    order = torch.arange(T, dtype=torch.int32)
    slot = torch.where(run, low - first, 2 * torch.arange(low.shape[2], dtype=torch.int32)).clamp(max=T - 2).long()
    weight = start.new_zeros(*low.shape[:2], T)
    weight.scatter_add_(2, slot, (1 - part) * share).scatter_add_(2, slot + 1, part * share)
    pairs = F.pad(torch.stack([low, low + 1], 3).flatten(2), (0, T))[..., :T]
    pixel = torch.where(run, first + order, pairs).clamp(max=length - 1)
    return _Taps(pixel, weight, count.squeeze(2).long())


def _samples(start: Tensor, extent: Tensor, bins: int, length: int,
             sampling_ratio: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the samples lie along one axis.

    Returns:
        at: (M, P, S) position in pixels; S is the most that any bin has within the map.
        valid: (M, P, S) bool, False past a bin's own number of samples.
        samples: (M,) float, the number that the sum of a bin is divided by.
    """
    size = extent / bins
    samples = torch.full_like(start, sampling_ratio) if sampling_ratio > 0 else size.ceil()
    samples = samples.nan_to_num(0).clamp(0, 1 << 24)
    step = size / samples.clamp(min=1)
    begin = start[:, None] + torch.arange(bins, dtype=start.dtype, device=start.device) * size[:, None]    # (M, P)
    # adaptive samples are at least half a pixel apart, so that no more of them lie within the map
    S = max(1, min(int(samples.max()), sampling_ratio or 2 * length + 8))
    skip = ((-1 - begin) / step[:, None]).nan_to_num(0).floor().sub(1).minimum(samples[:, None] - S).clamp(min=0)
    ordinal = skip[..., None] + torch.arange(S, dtype=start.dtype, device=start.device)    # (M, P, S)
    last = samples[:, None, None] - 1
    at = begin[..., None] + (ordinal.minimum(last) + 0.5) * size[:, None, None] / samples.clamp(min=1)[:, None, None]
    at = at.nan_to_num(-2)
    return at, (ordinal <= last).expand_as(at), samples


class _Reads(NamedTuple):
    """Which pixels the bins of some regions add up: bin `i` those from `offsets[i]` to `offsets[i + 1]`.

    Attributes:
        pixel: (E,) int32 index into the rows (image, y, x) of the map.
        weight: (E,) float.
        offsets: (M * h * w + 1,) int32.
    """

    pixel: Tensor
    weight: Tensor
    offsets: Tensor


def _reads(image: Tensor, y: _Taps, x: _Taps, H: int, W: int) -> _Reads:
    """Multiply out the taps of both axes."""
    M, h, T = y.weight.shape
    w = x.weight.shape[1]
    # lines: what a bin reads of one row of the map, (M, h, w, T) with the unused left out
    is_used = (torch.arange(T) < y.used[..., None])[:, :, None].expand(M, h, w, T).reshape(-1)
    tap = (torch.arange(M * h * T, dtype=torch.int32).view(M, h, 1, T)).expand(M, h, w, T).reshape(-1)[is_used]
    bin_x = torch.arange(M * w, dtype=torch.int32).view(M, 1, w, 1).expand(M, h, w, T).reshape(-1)[is_used]
    row = ((y.pixel + image.int().view(M, 1, 1) * H) * W).view(-1)[tap]
    width = x.used.view(-1)[bin_x]
    ends = width.cumsum(0)
    E = int(ends[-1]) if len(ends) else 0
    line = torch.repeat_interleave(torch.arange(len(width), dtype=torch.int32), width, output_size=E)
    begin = (bin_x * x.weight.shape[2] - (ends - width)).int()
    source = begin[line] + torch.arange(E, dtype=torch.int32)    # (E,) index into the taps of x
    bins = (y.used[:, :, None] * x.used[:, None]).view(-1).cumsum(0).int()
    return _Reads(row[line] + x.pixel.view(-1)[source], y.weight.view(-1)[tap][line] * x.weight.view(-1)[source],
                  F.pad(bins, (1, 0)))


def _chunks(rois: Tensor, h: int, w: int, H: int, W: int, scale: float, sampling_ratio: int,
            aligned: bool) -> Iterator[tuple[slice, _Reads]]:
    """The reads of all regions, a bounded number at a time."""
    (x_start, width), (y_start, height) = _spans(rois, scale, aligned)
    y, x = _taps(y_start, height, h, H, sampling_ratio), _taps(x_start, width, w, W, sampling_ratio)
    total = (y.used.sum(1) * x.used.sum(1)).cumsum(0)
    image, begin, done = rois[:, 0], 0, 0
    while begin < len(rois):
        end = max(int(torch.searchsorted(total, done + CHUNK, right=True)), begin + 1)
        s = slice(begin, end)
        yield s, _reads(image[s], _Taps(*(t[s] for t in y)), _Taps(*(t[s] for t in x)), H, W)
        begin, done = end, int(total[end - 1])


@torch.library.custom_op('omnidet::roi_align', mutates_args=())
def _align(feat: Tensor, rois: Tensor, h: int, w: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    B, C, H, W = feat.shape
    rows = feat.permute(0, 2, 3, 1).contiguous().view(B * H * W, C)
    out = feat.new_empty(len(rois), h * w, C)
    for s, reads in _chunks(rois, h, w, H, W, scale, sampling_ratio, aligned) if out.numel() else ():
        out[s] = _sums(rows, reads).view(-1, h * w, C)
    return out.view(len(rois), h, w, C).permute(0, 3, 1, 2).contiguous()


@_align.register_fake
def _(feat: Tensor, rois: Tensor, h: int, w: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    return feat.new_empty(rois.shape[0], feat.shape[1], h, w)


@torch.library.custom_op('omnidet::roi_align_backward', mutates_args=())
def _align_backward(grad: Tensor, rois: Tensor, size: list[int], scale: float, sampling_ratio: int,
                    aligned: bool) -> Tensor:
    B, C, H, W = size
    h, w = grad.shape[2:]
    rows = grad.permute(0, 2, 3, 1).contiguous().view(-1, C)
    out = grad.new_zeros(B * H * W, C)
    for s, reads in _chunks(rois, h, w, H, W, scale, sampling_ratio, aligned) if rows.numel() else ():
        out += _sums(rows[s.start * h * w:s.stop * h * w], _transposed(reads, len(out)))
    return out.view(B, H, W, C).permute(0, 3, 1, 2)


@_align_backward.register_fake
def _(grad: Tensor, rois: Tensor, size: list[int], scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    B, C, H, W = size
    return grad.new_empty(B, H, W, C).permute(0, 3, 1, 2)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    feat, rois, _, _, *options = inputs
    ctx.save_for_backward(rois)
    ctx.size, ctx.options = list(feat.shape), options


def _grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return torch.ops.omnidet.roi_align_backward(grad, *ctx.saved_tensors, ctx.size, *ctx.options), *(None,) * 6


_align.register_autograd(_grad, setup_context=_save)


def _sums(rows: Tensor, reads: _Reads) -> Tensor:
    """(N, C): for each of the N bins of `reads`, the weighted sum of the `rows` (R, C) that it lists."""
    return F.embedding_bag(reads.pixel, rows, reads.offsets, mode='sum', per_sample_weights=reads.weight,
                           include_last_offset=True)


def _transposed(reads: _Reads, R: int) -> _Reads:
    """For each of R pixels the bins that read it, in the order of the bins: the sum is the same every time."""
    pixel, order = torch.sort(reads.pixel, stable=True)
    bins = torch.arange(len(reads.offsets) - 1, dtype=torch.int32).repeat_interleave(reads.offsets.diff())
    offsets = torch.searchsorted(pixel, torch.arange(R + 1, dtype=torch.int32), out_int32=True)
    return _Reads(bins[order], reads.weight[order], offsets)


def _spans(rois: Tensor, scale: float, aligned: bool) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Start and extent of the regions along x and along y, in pixels of the map whose centres lie at integers."""
    x1, y1, x2, y2 = (rois[:, 1:] * scale - (0.5 if aligned else 0.0)).unbind(1)
    width, height = (x2 - x1, y2 - y1) if aligned else ((x2 - x1).clamp(min=1), (y2 - y1).clamp(min=1))
    return (x1, width), (y1, height)


def _max_align(feat: Tensor, rois: Tensor, h: int, w: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    """(M, C, h, w): the greatest sample of each bin; 0 for a region without samples."""
    B, C, H, W = feat.shape
    rows = feat.permute(0, 2, 3, 1).reshape(B * H * W, C)
    (x_start, width), (y_start, height) = _spans(rois, scale, aligned)
    y, y_valid, _ = _samples(y_start, height, h, H, sampling_ratio)
    x, x_valid, _ = _samples(x_start, width, w, W, sampling_ratio)
    some = max(1, CHUNK // max(1, y[0].numel() * x[0].numel() * C)) if len(rois) else 1

    def of(s: slice) -> Tensor:    # (m, h, w, C)
        values = _bilinear(rows, rois[s, 0].long(), y[s], x[s], H, W)
        valid = y_valid[s, :, None, :, None] & x_valid[s, None, :, None, :]    # (m, h, w, Sy, Sx)
        best = values.masked_fill(~valid[..., None], -torch.inf).flatten(3, 4).max(3).values
        return torch.where(valid.flatten(3).any(3)[..., None], best, 0)

    # each chunk is computed again in the backward pass: kept, the samples would take far more memory than the output
    parts = [checkpoint(of, slice(i, i + some), use_reentrant=False) for i in range(0, len(rois), some)]
    return torch.cat([feat.new_zeros(0, h, w, C), *parts]).permute(0, 3, 1, 2)


def _bilinear(rows: Tensor, image: Tensor, y: Tensor, x: Tensor, H: int, W: int) -> Tensor:
    """(m, h, w, Sy, Sx, C): the map (B * H * W, C) at y (m, h, Sy) times x (m, w, Sx) of `image` (m,)."""
    def ends(at: Tensor, length: int) -> tuple[Tensor, Tensor]:    # pixels and weights, (m, P, S, 2)
        low = at.clamp(0, max(length - 2, 0)).floor()
        part = at.clamp(0, length - 1) - low
        weight = torch.stack([1 - part, part], -1) * ((at >= -1) & (at <= length))[..., None]
        return torch.stack([low, low + 1], -1).long().clamp(max=length - 1), weight

    (y_pixel, y_weight), (x_pixel, x_weight) = ends(y, H), ends(x, W)
    row = (y_pixel + image[:, None, None, None] * H) * W
    pixel = row[:, :, None, :, None, :, None] + x_pixel[:, None, :, None, :, None, :]    # (m, h, w, Sy, Sx, 2, 2)
    weight = y_weight[:, :, None, :, None, :, None] * x_weight[:, None, :, None, :, None, :]
    values = F.embedding_bag(pixel.reshape(-1, 4), rows, mode='sum', per_sample_weights=weight.reshape(-1, 4))
    return values.view(*pixel.shape[:5], rows.shape[1])
