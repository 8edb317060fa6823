"""Deformable RoI pooling (arXiv:1703.06211, section 2.2; the sampling of RoIAlign as in arXiv:1811.11168)."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.ops.bins import axis_taps, list_reads, weighted_sums
from omnidet.ops.roi_align import roi_align, spans


def deform_roi_pool(feat: Tensor, rois: Tensor, offset: Tensor | None, output_size: int | tuple[int, int],
                    spatial_scale: float = 1.0, sampling_ratio: int = 0, gamma: float = 0.1) -> Tensor:
    """RoIAlign whose bins move each by its own offset (equations 5 and 6 of arXiv:1703.06211).

    Args:
        feat: (B, C, H, W) float.
        rois: (M, 5) image index, x1, y1, x2, y2 in pixels of the input image.
        offset: (M, 2, h, w), by how much each bin moves: along x, then along y, in `gamma` times the region's width
            and height. None moves nothing.
        output_size: (h, w) bins, or one number for both.
        spatial_scale: pixels of `feat` for one pixel of the input image.
        sampling_ratio: samples of a bin along each axis; 0 takes as many as the bin has pixels, rounded up.
        gamma: the unit of the offsets.

    Returns:
        (M, C, h, w) in the type of `feat`, computed in float32 at least. Differentiable in `feat` and `offset`.
    """
    if offset is None or feat.is_meta or not len(rois):
        return roi_align(feat, rois, output_size, spatial_scale, sampling_ratio)
    h, w = (output_size, output_size) if isinstance(output_size, int) else output_size
    B, C, H, W = feat.shape
    exact = torch.promote_types(feat.dtype, torch.float32)
    offset = offset.to(exact)
    (x, width), (y, height) = spans(rois.to(exact), spatial_scale, aligned=True)

    def moved(start: Tensor, extent: Tensor, place: Tensor, by: Tensor) -> Tensor:    # (M * h * w,), where bins begin
        return (start[:, None, None] + place * extent[:, None, None] + gamma * by * extent[:, None, None]).flatten()

    def places(bins: int) -> Tensor:
        return torch.arange(bins, dtype=exact, device=feat.device) / bins

    # from here on each bin is a region of its own, with one bin
    y_taps = axis_taps(moved(y, height, places(h)[:, None], offset[:, 1]), (height / h).repeat_interleave(h * w), 1, H,
                       sampling_ratio)
    x_taps = axis_taps(moved(x, width, places(w), offset[:, 0]), (width / w).repeat_interleave(h * w), 1, W,
                       sampling_ratio)
    reads = list_reads(rois[:, 0].repeat_interleave(h * w), y_taps, x_taps, H, W)
    rows = feat.to(exact).permute(0, 2, 3, 1).reshape(B * H * W, C)
    return weighted_sums(rows, reads).view(-1, h, w, C).permute(0, 3, 1, 2).to(feat.dtype)
