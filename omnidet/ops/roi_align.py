"""RoIAlign (arXiv:1703.06870) by separable weights.

On a CPU the pixels that the bins read are listed (`ops/bins.py`), and one `embedding_bag` adds them up; the backward
pass is the same sum over the transposed list. Values are those of `torchvision.ops.roi_align`, which other devices use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from omnidet.ops.bins import Reads, Taps, axis_samples, axis_taps, list_reads, transposed, weighted_sums

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
    if pool_mode == 'max' and len(rois) and not feat.is_meta:
        out = _max_align(feat.to(exact), rois.to(exact), h, w, spatial_scale, sampling_ratio, aligned)
    elif feat.device.type in ('cpu', 'meta'):
        out = torch.ops.omnidet.roi_align(feat.to(exact), rois.to(exact), h, w, spatial_scale, sampling_ratio, aligned)
    else:
        out = torchvision.ops.roi_align(feat.to(exact), rois.to(exact), (h, w), spatial_scale, sampling_ratio, aligned)
    return out.to(feat.dtype)


def _chunks(rois: Tensor, h: int, w: int, H: int, W: int, scale: float, sampling_ratio: int,
            aligned: bool) -> Iterator[tuple[slice, Reads]]:
    """The reads of all regions, a bounded number at a time."""
    (x_start, width), (y_start, height) = spans(rois, scale, aligned)
    y, x = axis_taps(y_start, height, h, H, sampling_ratio), axis_taps(x_start, width, w, W, sampling_ratio)
    total = (y.used.sum(1) * x.used.sum(1)).cumsum(0)
    image, begin, done = rois[:, 0], 0, 0
    while begin < len(rois):
        end = max(int(torch.searchsorted(total, done + CHUNK, right=True)), begin + 1)
        s = slice(begin, end)
        yield s, list_reads(image[s], Taps(*(t[s] for t in y)), Taps(*(t[s] for t in x)), H, W)
        begin, done = end, int(total[end - 1])


@torch.library.custom_op('omnidet::roi_align', mutates_args=())
def _align(feat: Tensor, rois: Tensor, h: int, w: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    B, C, H, W = feat.shape
    rows = feat.permute(0, 2, 3, 1).contiguous().view(B * H * W, C)
    some = len(rois) * h * w * C > 0
    parts = [weighted_sums(rows, reads) for _, reads in _chunks(rois, h, w, H, W, scale, sampling_ratio, aligned)] \
        if some else [feat.new_empty(len(rois) * h * w, C)]
    out = parts[0] if len(parts) == 1 else torch.cat(parts)    # (M * h * w, C)
    return out.view(len(rois), h, w, C).permute(0, 3, 1, 2)    # channels_last, as it was summed


@_align.register_fake
def _(feat: Tensor, rois: Tensor, h: int, w: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    return feat.new_empty(rois.shape[0], h, w, feat.shape[1]).permute(0, 3, 1, 2)


@torch.library.custom_op('omnidet::roi_align_backward', mutates_args=())
def _align_backward(grad: Tensor, rois: Tensor, B: int, H: int, W: int, scale: float, sampling_ratio: int,
                    aligned: bool) -> Tensor:
    C, h, w = grad.shape[1:]
    rows = grad.permute(0, 2, 3, 1).contiguous().view(-1, C)
    out = None
    for s, reads in _chunks(rois, h, w, H, W, scale, sampling_ratio, aligned) if rows.numel() else ():
        part = weighted_sums(rows[s.start * h * w:s.stop * h * w], transposed(reads, B * H * W))
        out = part if out is None else out.add_(part)
    out = grad.new_zeros(B * H * W, C) if out is None else out
    return out.view(B, H, W, C).permute(0, 3, 1, 2)


@_align_backward.register_fake
def _(grad: Tensor, rois: Tensor, B: int, H: int, W: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    return grad.new_empty(B, H, W, grad.shape[1]).permute(0, 3, 1, 2)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    feat, rois, _, _, *options = inputs
    ctx.save_for_backward(rois)
    ctx.options = [feat.shape[0], *feat.shape[2:], *options]


def _grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return torch.ops.omnidet.roi_align_backward(grad, *ctx.saved_tensors, *ctx.options), *(None,) * 6


_align.register_autograd(_grad, setup_context=_save)


def spans(rois: Tensor, scale: float, aligned: bool) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Start and extent of the regions along x and along y, in pixels of the map whose centres lie at integers."""
    x1, y1, x2, y2 = (rois[:, 1:] * scale - (0.5 if aligned else 0.0)).unbind(1)
    width, height = (x2 - x1, y2 - y1) if aligned else ((x2 - x1).clamp(min=1), (y2 - y1).clamp(min=1))
    return (x1, width), (y1, height)


def _max_align(feat: Tensor, rois: Tensor, h: int, w: int, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    """(M, C, h, w): the greatest sample of each bin; 0 for a region without samples."""
    B, C, H, W = feat.shape
    rows = feat.permute(0, 2, 3, 1).reshape(B * H * W, C)
    (x_start, width), (y_start, height) = spans(rois, scale, aligned)
    y, y_valid, _ = axis_samples(y_start, height, h, H, sampling_ratio)
    x, x_valid, _ = axis_samples(x_start, width, w, W, sampling_ratio)
    some = max(1, CHUNK // max(1, y[0].numel() * x[0].numel() * C))    # regions at a time

    def of(s: slice) -> Tensor:    # (m, h, w, C)
        values = _bilinear(rows, rois[s, 0].long(), y[s], x[s], H, W)
        valid = y_valid[s, :, None, :, None] & x_valid[s, None, :, None, :]    # (m, h, w, Sy, Sx)
        best = values.masked_fill(~valid[..., None], -torch.inf).flatten(3, 4).max(3).values
        return torch.where(valid.flatten(3).any(3)[..., None], best, 0)

    # each chunk is computed again in the backward pass: kept, the samples would take far more memory than the output
    parts = [checkpoint(of, slice(i, i + some), use_reentrant=False) for i in range(0, len(rois), some)]
    return torch.cat(parts).permute(0, 3, 1, 2)


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
