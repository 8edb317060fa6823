"""Masks of instances, held as what lies inside each one's window and not as whole images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class InstanceMasks:
    """Bool masks of instances, each kept as the window around it.

    A hundred objects in an image of 1024 x 1024 are 100 MB as whole images, and a few as windows. `omnidet.ops.masks`
    samples and pastes them without ever making the whole images.

    Attributes:
        bits: (T,) uint8 of 0 and 1: the windows, each row by row, one after another. Some may belong to no window.
        windows: (..., 4) int64, x1, y1, x2, y2 in pixels, the last two exclusive, inside the image; nothing is set
            outside. The leading dimensions are (G,) for an image and (B, G) for a batch. One without extent is an
            empty mask.
        starts: (...,) int64, where a window begins in `bits`.
        size: (H, W) of the image, or of the batch's images.
    """

    bits: Tensor
    windows: Tensor
    starts: Tensor
    size: tuple[int, int]

    @classmethod
    def from_windows(cls, windows: Any, crops: Sequence[Any], size: tuple[int, int]) -> InstanceMasks:
        """From what lies inside each window.

        Args:
            windows: (G, 4) whole pixels x1, y1, x2, y2 (exclusive), inside the image.
            crops: for each window its (y2 - y1, x2 - x1) of zero and nonzero, arrays or tensors on the CPU.
            size: (H, W) of the image.

        Raises:
            ValueError: a crop does not fill its window, or a window leaves the image.
        """
        boxes = torch.as_tensor(np.asarray(windows), dtype=torch.int64).reshape(-1, 4)
        sizes = [(max(y2 - y1, 0), max(x2 - x1, 0)) for x1, y1, x2, y2 in boxes.tolist()]
        flat = [np.asarray(crop).astype(bool).view(np.uint8) for crop in crops]
        if [c.shape for c in flat] != sizes:
            raise ValueError(f'crops of {[c.shape for c in flat]} (h, w) do not fill windows of {sizes}')
        if len(boxes) and (boxes.min() < 0 or boxes[:, 2].max() > size[1] or boxes[:, 3].max() > size[0]):
            raise ValueError(f'a window of {boxes.tolist()} leaves the image of {tuple(size)} (h, w)')
        bits = np.concatenate([np.zeros(0, np.uint8), *(c.reshape(-1) for c in flat)])
        lengths = torch.tensor([h * w for h, w in sizes], dtype=torch.int64)
        return cls(torch.from_numpy(bits), boxes, lengths.cumsum(0) - lengths, (int(size[0]), int(size[1])))

    @classmethod
    def from_dense(cls, masks: Any) -> InstanceMasks:
        """From whole images (..., H, W), a tensor or an array; the windows lie close around what is set."""
        masks = torch.as_tensor(masks)
        *leading, H, W = masks.shape
        flat = masks.reshape(math.prod(leading), H, W).bool()
        x1, x2 = _extent(flat.any(dim=1))
        y1, y2 = _extent(flat.any(dim=2))
        windows = torch.stack([x1, y1, x2, y2], dim=-1)
        parts = [m[t:b, s:e].reshape(-1) for m, (s, t, e, b) in zip(flat, windows.tolist(), strict=True)]
        bits = torch.cat(parts).view(torch.uint8) if parts else torch.zeros(0, dtype=torch.uint8, device=masks.device)
        lengths = (x2 - x1) * (y2 - y1)
        return cls(bits, windows.reshape(*leading, 4), (lengths.cumsum(0) - lengths).reshape(leading), (H, W))

    @classmethod
    def stack(cls, items: Sequence[InstanceMasks | None], G: int, size: tuple[int, int]) -> InstanceMasks:
        """The masks of several images as those of a batch.

        Args:
            items: for each image its masks (g,), g at most G; None for none. All on one device.
            G: places for each image; the last ones are empty masks.
            size: (H, W) of the batch; images are padded at the right and bottom.

        Returns:
            (B, G) masks.

        Raises:
            ValueError: an image is larger than the batch.
        """
        some = [m for m in items if m is not None]
        if any(m.size[0] > size[0] or m.size[1] > size[1] for m in some):
            raise ValueError(f'masks of images of {[m.size for m in some]} (h, w) do not fit a batch of {tuple(size)}')
        device = some[0].bits.device if some else None
        windows = torch.zeros(len(items), G, 4, dtype=torch.int64, device=device)
        starts = torch.zeros(len(items), G, dtype=torch.int64, device=device)
        at = 0
        for i, m in enumerate(items):
            if m is not None:
                windows[i, :len(m)] = m.windows
                starts[i, :len(m)] = m.starts + at
                at += len(m.bits)
        bits = torch.cat([m.bits for m in some]) if some else torch.zeros(0, dtype=torch.uint8)
        return cls(bits, windows, starts, (int(size[0]), int(size[1])))

    @classmethod
    def cat(cls, items: Sequence[InstanceMasks], size: tuple[int, int]) -> InstanceMasks:
        """Masks (g,) of images of `size` (H, W), one after another; none where there are no items."""
        if not items:
            return cls.from_windows([], [], size)
        lengths = [len(m.bits) for m in items]
        starts = [m.starts + sum(lengths[:i]) for i, m in enumerate(items)]
        return cls(torch.cat([m.bits for m in items]), torch.cat([m.windows for m in items]), torch.cat(starts),
                   (int(size[0]), int(size[1])))

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that `dense()` has: (..., H, W)."""
        return (*self.starts.shape, *self.size)

    @property
    def device(self) -> torch.device:
        return self.bits.device

    def __getitem__(self, index: Any) -> InstanceMasks:
        """Those that `index` picks along the first dimension: a slice, a bool mask, indices, or an int."""
        return replace(self, windows=self.windows[index], starts=self.starts[index])

    def crops(self) -> Iterator[Tensor]:
        """The inside of every window in order, (h, w) uint8, as views of `bits`. Synchronises with the device once."""
        for (x1, y1, x2, y2), start in zip(self.windows.reshape(-1, 4).tolist(), self.starts.reshape(-1).tolist(),
                                           strict=True):
            h, w = max(y2 - y1, 0), max(x2 - x1, 0)
            yield self.bits[start:start + h * w].view(h, w)

    def dense(self) -> Tensor:
        """(..., H, W) bool: every mask as a whole image."""
        out = torch.zeros(self.starts.numel(), *self.size, dtype=torch.bool, device=self.device)
        for mask, crop, (x1, y1, _, _) in zip(out, self.crops(), self.windows.reshape(-1, 4).tolist(), strict=True):
            mask[y1:y1 + crop.shape[0], x1:x1 + crop.shape[1]] = crop
        return out.view(self.shape)

    def area(self) -> Tensor:
        """(...,) int64, the pixels of each mask."""
        areas = [crop.sum(dtype=torch.int64) for crop in self.crops()]
        return torch.stack(areas).view(self.starts.shape) if areas else torch.zeros_like(self.starts)

    def padded(self, size: tuple[int, int]) -> InstanceMasks:
        """The same masks in an image of `size` (H, W), enlarged at the right and bottom."""
        return replace(self, size=(int(size[0]), int(size[1])))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> InstanceMasks:
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def cpu(self) -> InstanceMasks:
        return self.to('cpu')

    def pin_memory(self) -> InstanceMasks:
        return self._map(lambda t: t.pin_memory())

    def _map(self, f: Callable[[Tensor], Tensor]) -> InstanceMasks:
        return InstanceMasks(f(self.bits), f(self.windows), f(self.starts), self.size)


def _extent(marked: Tensor) -> tuple[Tensor, Tensor]:
    """The first position that is set in each row of (G, n) bool, and one past the last; zeros where none is."""
    n = marked.shape[1]
    at = torch.arange(n, device=marked.device)
    last = torch.where(marked, at + 1, 0).amax(dim=1) if n else marked.new_zeros(len(marked), dtype=torch.int64)
    first = torch.where(marked, at, n).amin(dim=1).minimum(last) if n else last
    return first, last
