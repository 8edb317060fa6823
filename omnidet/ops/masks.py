"""Sampling instance masks at boxes, and putting small masks back into images, window by window.

Both are separable: a box is resampled by one matrix for its rows and one for its columns, so the work goes into matrix
products, and no whole image (G, H, W) is ever made.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

from omnidet.masks import InstanceMasks
from omnidet.ops.bins import axis_taps

BUDGET = 1 << 23    # numbers in the matrices that are held at once: 32 MB
CHUNK = 1 << 20    # pixels that are looked at at once


@torch.no_grad()
def crop_and_resize(masks: InstanceMasks, boxes: Tensor, image: Tensor, instance: Tensor,
                    out: tuple[int, int]) -> Tensor:
    """What a mask shows inside a box, at a fixed size: RoIAlign (arXiv:1703.06870) of the mask as 0.0 and 1.0.

    Each of the h x w bins is the mean over ceil(side / bins) samples along either side, half a pixel shifted
    (`aligned=True`, `sampling_ratio=0`). Synchronises with the device a few times, whatever the number of boxes.

    Args:
        masks: (B, G).
        boxes: (M, 4) xyxy in pixels.
        image: (M,) int64, the image that each box lies in.
        instance: (M,) int64, which of that image's masks it looks at.
        out: (h, w), the number of bins.

    Returns:
        (M, h, w) float32 in 0..1.
    """
    result = torch.zeros(len(boxes), *out, device=boxes.device)
    which = image * masks.starts.shape[1] + instance
    order = which.argsort()    # the boxes of one mask together: its pixels are read once
    which, boxes = which[order], boxes[order].float()
    windows, starts = masks.windows.reshape(-1, 4)[which], masks.starts.reshape(-1)[which]
    sizes = (windows[:, 2:] - windows[:, :2]).clamp(min=0)    # (M, 2) as (w, h)
    sides = boxes[:, 2:] - boxes[:, :2]
    rows = list(zip(which.tolist(), starts.tolist(), sizes.tolist(), strict=True))
    per_box = max([1, *(out[1] * w + out[0] * h for _, _, (w, h) in rows)])
    step = max(BUDGET // per_box, 1)
    with torch.autocast(boxes.device.type, enabled=False):
        for at in range(0, len(rows), step):
            part = slice(at, at + step)
            columns, lines = (_bin_matrices(boxes[part, axis], sides[part, axis], out[1 - axis], masks.size[1 - axis],
                                            windows[part, axis], sizes[part, axis],
                                            total=sum(size[axis] for _, _, size in rows[part])) for axis in (0, 1))
            result[order[part]] = _crop(masks.bits, rows[part], columns, lines, out)
    return result


def _crop(bits: Tensor, rows: list[tuple[int, int, list[int]]], columns: Tensor, lines: Tensor,
          out: tuple[int, int]) -> Tensor:
    """(m, h, w): the product of each box's `lines` (h, of window), its mask, and its `columns` (w, of window)."""
    found, at = [], [0, 0]
    for _, group in groupby(rows, key=lambda row: row[0]):
        members = list(group)
        n, (_, start, (w, h)) = len(members), members[0]
        ends = [at[0] + n * out[1] * w, at[1] + n * out[0] * h]
        x = columns[at[0]:ends[0]].view(n, out[1], w)
        y = lines[at[1]:ends[1]].view(n * out[0], h)
        mask = bits[start:start + h * w].view(h, w).float()
        found.append(torch.bmm((y @ mask).view(n, out[0], w), x.mT))
        at = ends
    return torch.cat(found)


def _bin_matrices(start: Tensor, side: Tensor, bins: int, extent: int, low: Tensor, size: Tensor,
                  total: int) -> Tensor:
    """How much each pixel of a window counts in each bin, along one axis.

    Args:
        start, side: (M,) where each box begins and how long it is, in pixels.
        bins: how many there are in a box.
        extent: pixels of the image.
        low, size: (M,) int64, where each window begins and how long it is.
        total: the sum of `size`.

    Returns:
        (bins * total,) matrices (bins, size) row by row, one after another.
    """
    taps = axis_taps(start - 0.5, side, bins, extent, 0)
    place, size3 = taps.pixel - low[:, None, None], size[:, None, None]    # (M, bins, T)
    begin = bins * (size.cumsum(0) - size)[:, None, None] + torch.arange(bins, device=size.device)[:, None] * size3
    out = torch.zeros(bins * total + 1, device=start.device)    # the last entry takes what falls outside the windows
    index = torch.where((place >= 0) & (place < size3), begin + place, bins * total)
    return out.index_add_(0, index.flatten(), taps.weight.flatten())[:-1]


@torch.no_grad()
def paste_masks(probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> InstanceMasks:
    """Stretch small masks over their boxes and cut them at a threshold.

    Bilinear, as `grid_sample(align_corners=False)` at the pixels' centres: pixel x looks at
    (x + 0.5 - x1) / (x2 - x1) of the mask's width, and beyond the mask's border there are zeros.

    Args:
        probs: (K, h, w) in 0..1.
        boxes: (K, 4) xyxy in pixels of the image.
        size: (H, W) of the image.
        threshold: greater than 0; what reaches it is set.

    Returns:
        (K,) masks, whose windows are the boxes and half a bin around them.
    """
    (H, W), device = size, probs.device
    probs, boxes = probs.float(), boxes.float().nan_to_num()
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    rim = sides / (2 * sides.new_tensor([probs.shape[2], probs.shape[1]])) + 0.5
    limit = sides.new_tensor([W, H])
    low = (boxes[:, :2] - rim).floor().clamp(min=0).minimum(limit)
    windows = torch.cat([low, (boxes[:, 2:] + rim).ceil().minimum(limit).maximum(low)], dim=1).long()
    sizes = windows[:, 2:] - windows[:, :2]    # (K, 2) as (w, h)
    starts = sizes.prod(dim=1).cumsum(0) - sizes.prod(dim=1)
    rows = sizes.tolist()
    bits = torch.empty(sum(w * h for w, h in rows), dtype=torch.uint8, device=device)
    step = max(BUDGET // max([1, *(w * probs.shape[2] + h * probs.shape[1] for w, h in rows)]), 1)
    at = 0
    with torch.autocast(device.type, enabled=False):
        for k in range(0, len(rows), step):
            part = slice(k, k + step)
            lengths = [[row[axis] for row in rows[part]] for axis in (0, 1)]
            columns, lines = (_pixel_matrices(boxes[part, axis], sides[part, axis], probs.shape[2 - axis],
                                              low[part, axis], sizes[part, axis], sum(lengths[axis])
                                              ).split(lengths[axis]) for axis in (0, 1))
            for prob, x, y in zip(probs[part], columns, lines, strict=True):
                view = bits[at:at + len(x) * len(y)].view(torch.bool).view(len(y), len(x))
                torch.ge(y @ prob @ x.mT, threshold, out=view)
                at += view.numel()
    return InstanceMasks(bits, windows, starts, (int(H), int(W)))


def _pixel_matrices(start: Tensor, side: Tensor, bins: int, low: Tensor, size: Tensor, total: int) -> Tensor:
    """How much each bin of a box counts at each pixel of its window, along one axis.

    Args:
        start, side: (K,) where each box begins and how long it is, in pixels.
        bins: how many there are in a box.
        low, size: (K,) where each window begins, and int64 how long it is.
        total: the sum of `size`.

    Returns:
        (total, bins): the pixels of all windows, one after another.
    """
    k = torch.repeat_interleave(torch.arange(len(size), device=size.device), size, output_size=total)
    pixel = torch.arange(total, device=size.device) - (size.cumsum(0) - size)[k] + low[k]
    at = (pixel + 0.5 - start[k]) / side[k] * bins - 0.5    # 0 in the middle of the first bin
    return (1 - (at[:, None] - torch.arange(bins, device=size.device)).abs()).clamp(min=0)


def resize_masks(masks: InstanceMasks, size: tuple[int, int]) -> InstanceMasks:
    """Stretch to images of `size` (H, W); a pixel takes the value of the one it lies in (nearest, rounded down)."""
    if size == masks.size:
        return masks
    scale = [(masks.size[1 - axis], size[1 - axis]) for axis in (0, 1, 0, 1)]    # (from, to) for x1, y1, x2, y2
    windows = torch.stack([-(-masks.windows[..., n] * new // old) for n, (old, new) in enumerate(scale)], dim=-1)
    lengths = (windows[..., 2:] - windows[..., :2]).clamp(min=0).prod(-1).flatten()
    pieces = [masks.bits[:0]]
    for crop, old, new in zip(masks.crops(), masks.windows.reshape(-1, 4).tolist(), windows.reshape(-1, 4).tolist(),
                              strict=True):
        x, y = (torch.arange(new[n], new[n + 2], device=masks.device) * scale[n][0] // scale[n][1] - old[n]
                for n in (0, 1))
        pieces.append(crop[y][:, x].flatten())
    return InstanceMasks(torch.cat(pieces), windows, (lengths.cumsum(0) - lengths).view(masks.starts.shape),
                         (int(size[0]), int(size[1])))


def pixels_at(masks: InstanceMasks, instance: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The pixels where some columns and some rows of masks cross. Never synchronises with the device.

    Args:
        masks: (...,), of any leading dimensions.
        instance: (M,) int64 into all masks, their leading dimensions flattened.
        x: (w,) int64 columns.
        y: (h,) int64 rows.

    Returns:
        (M, h, w) bool; False outside the image.
    """
    if not masks.bits.numel():
        return torch.zeros(len(instance), len(y), len(x), dtype=torch.bool, device=instance.device)
    window, start = masks.windows.reshape(-1, 4)[instance], masks.starts.reshape(-1)[instance]
    x1, y1, x2, y2 = window[..., None].unbind(1)    # (M, 1)
    inside = ((y >= y1) & (y < y2))[:, :, None] & ((x >= x1) & (x < x2))[:, None]    # (M, h, w)
    at = ((y - y1) * (x2 - x1) + start[:, None])[:, :, None] + (x - x1)[:, None]
    return masks.bits[torch.where(inside, at, 0)].bool() & inside


def masks_at_stride(masks: InstanceMasks, instance: Tensor, stride: int, size: tuple[int, int],
                    smooth: bool = False) -> Tensor:
    """What masks show on a coarser grid.

    Args:
        masks: (...,), of any leading dimensions.
        instance: (M,) int64 into all masks, their leading dimensions flattened.
        stride: pixels between the grid's cells.
        size: (h, w) of the grid.
        smooth: shrink bilinearly and round, a half up: at an even stride a cell is set where two of the four pixels in
            its middle are; else a cell is the pixel to the right of and below its middle.

    Returns:
        (M, h, w) bool.
    """
    y, x = (torch.arange(n, device=instance.device) * stride + stride // 2 for n in size)
    if not smooth or stride % 2:
        return pixels_at(masks, instance, x, y)
    count = torch.zeros(len(instance), *size, dtype=torch.uint8, device=instance.device)
    for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)):
        count += pixels_at(masks, instance, x - i, y - j)
    return count >= 2


def mass_and_center(masks: InstanceMasks) -> tuple[Tensor, Tensor]:
    """The pixels of each mask, and their mean position. Never synchronises with the device.

    Args:
        masks: (...,), of any leading dimensions.

    Returns:
        (...,) float32 pixels, and (..., 2) float32 x, y, where 0 is the first pixel; zeros for an empty mask.
    """
    window, T = masks.windows.reshape(-1, 4), masks.bits.numel()
    w, h = (window[:, 2:] - window[:, :2]).clamp(min=0).unbind(-1)
    begin = torch.where(w * h > 0, masks.starts.reshape(-1), T)    # (M,); an empty window owns no bit
    edges, order = begin.sort()
    sums = begin.new_zeros(len(begin), 3)    # pixels, sum of columns, sum of rows
    for at in range(0, T if len(begin) else 0, CHUNK):
        place = torch.arange(at, min(at + CHUNK, T), device=masks.device)
        rank = torch.searchsorted(edges, place, right=True) - 1
        owner = order[rank.clamp(min=0)]
        offset, width = place - begin[owner], w[owner].clamp(min=1)
        bit = masks.bits[at:at + CHUNK].bool() & (rank >= 0) & (offset < w[owner] * h[owner])
        row = offset // width
        sums.index_add_(0, owner, torch.stack([torch.ones_like(row), offset - row * width, row], 1) * bit[:, None])
    # masks that share a window, as indexing with repeats gives them: the last in the order owns its bits
    owner = order[(torch.searchsorted(edges, begin, right=True) - 1).clamp(min=0)] if len(begin) else order
    sums = torch.where((begin < T)[:, None], sums[owner], 0).double()
    center = (sums[:, 1:] / sums[:, :1].clamp(min=1) + window[:, :2]) * (sums[:, :1] > 0)
    return sums[:, 0].float().view(masks.starts.shape), center.float().view(*masks.starts.shape, 2)


def threshold_resized(maps: Tensor, resize: Callable[[Tensor], Tensor], size: tuple[int, int],
                      threshold: float) -> InstanceMasks:
    """Masks in images from small maps of them, a few at a time.

    Args:
        maps: (K, h, w) logits or probabilities.
        resize: (k, h, w) -> (k, H, W).
        size: (H, W) of the image.
        threshold: what a pixel must exceed.

    Returns:
        (K,) masks, whose windows lie close around what is set.
    """
    step = max(BUDGET // max(size[0] * size[1], 1), 1)
    parts = [InstanceMasks.from_dense(resize(part) > threshold) for part in maps.split(step)] if len(maps) else []
    return InstanceMasks.cat(parts, size).to(maps.device)
