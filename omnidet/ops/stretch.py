"""Small maps of masks brought to the size of images, several resizings in one."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from omnidet.masks import InstanceMasks


class Stretch(NamedTuple):
    """Bilinear resizing as two matrices: `rows.mT @ map @ columns`.

    Attributes:
        rows: (h, H).
        columns: (w, W).
    """

    rows: Tensor
    columns: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of what it makes."""
        return self.rows.shape[1], self.columns.shape[1]

    def __call__(self, maps: Tensor) -> Tensor:
        """(..., h, w) -> (..., H, W)."""
        return self.rows.mT @ maps @ self.columns


def stretch(size: tuple[int, int], padded: tuple[int, int], image: tuple[int, int], out: tuple[int, int],
            device: torch.device) -> Stretch:
    """Resize maps to a padded image, cut the image out, and resize it: as `interpolate(align_corners=False)`, twice.

    Args:
        size: (h, w) of the maps.
        padded: (H, W) of the image with its padding at the right and bottom.
        image: (H, W) without it.
        out: (H, W) to make of the image.
        device: of the maps.
    """
    return Stretch(*(_axis(*axis, device) for axis in zip(size, padded, image, out, strict=True)))


def _axis(size: int, padded: int, image: int, out: int, device: torch.device) -> Tensor:
    """(size, out): what each cell of the map counts for each pixel along one axis."""
    weights = torch.eye(size, device=device)[None]
    weights = F.interpolate(weights, size=padded, mode='linear', align_corners=False)[..., :image]
    return F.interpolate(weights, size=out, mode='linear', align_corners=False)[0] if out != image else weights[0]


@torch.no_grad()
def stretch_masks(maps: Tensor, to: Stretch) -> tuple[InstanceMasks, Tensor, Tensor]:
    """Masks where stretched logits exceed 0. Only the part of each image is computed where they may.

    Args:
        maps: (K, h, w) logits.
        to: the size of the image.

    Returns:
        (K,) masks; (K, 4) the boxes around them, xyxy in pixels, zeros where a mask is empty; (K,) the mean of the
        sigmoid inside each, 0 where it is empty.
    """
    windows, lows = zip(*(_spans((maps > 0).any(dim), weights) for dim, weights in ((1, to.columns), (2, to.rows))),
                        strict=True)    # of x and of y: (K, 2) from and to, of pixels and of cells
    pixels = torch.stack([windows[0][:, 0], windows[1][:, 0], windows[0][:, 1], windows[1][:, 1]], 1)
    bits, boxes, scores = [], [], []
    for m, (x1, y1, x2, y2), (left, right), (top, bottom) in zip(maps.float(), pixels.tolist(), lows[0].tolist(),
                                                                 lows[1].tolist(), strict=True):
        logits = to.rows[top:bottom, y1:y2].mT @ m[top:bottom, left:right] @ to.columns[left:right, x1:x2]
        inside = logits > 0
        bits.append(inside.flatten().view(torch.uint8))
        scores.append((logits.sigmoid() * inside).sum() / (inside.sum() + 1e-6))
        boxes.append(torch.stack([*_extent(inside.any(0), x1), *_extent(inside.any(1), y1)]))
    lengths = (pixels[:, 2:] - pixels[:, :2]).prod(1)
    masks = InstanceMasks(torch.cat(bits) if bits else maps.new_zeros(0, dtype=torch.uint8), pixels,
                          lengths.cumsum(0) - lengths, to.size)
    if not bits:
        return masks, maps.new_zeros(0, 4), maps.new_zeros(0)
    return masks, torch.stack(boxes)[:, [0, 2, 1, 3]].float(), torch.stack(scores)


def _spans(marked: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels that may be set where cells are, and the cells that these pixels look at.

    Args:
        marked: (K, n) bool, the cells along one axis.
        weights: (n, N), what each counts for each pixel.

    Returns:
        (K, 2) int64 each, the first and one past the last; (0, 0) where no cell is marked.
    """
    n, N = weights.shape
    used = weights > 0
    cell = torch.arange(n, device=weights.device)[:, None]
    first, last = torch.where(used, cell, n).amin(0), torch.where(used, cell, -1).amax(0)    # (N,) rising both
    low = torch.where(marked, cell.T, n).amin(1)
    high = torch.where(marked, cell.T, -1).amax(1)
    begin = torch.searchsorted(last, low)    # the first pixel whose last cell is not before the marked ones
    end = torch.searchsorted(first, high, right=True)
    some = end > begin
    pixels = torch.stack([begin, end], 1)
    cells = torch.stack([first[begin.clamp(max=N - 1)], last[(end - 1).clamp(min=0)] + 1], 1)
    return torch.where(some[:, None], pixels, 0), torch.where(some[:, None], cells, 0)


def _extent(marked: Tensor, offset: int) -> tuple[Tensor, Tensor]:
    """The first place that is set, and one past the last; zeros where none is."""
    at = torch.arange(offset, offset + len(marked), device=marked.device)
    if not len(marked):
        return at.new_zeros(()), at.new_zeros(())
    last = torch.where(marked, at + 1, 0).amax()
    return torch.where(marked, at, offset + len(marked)).amin().minimum(last), last
