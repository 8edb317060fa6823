"""Anchors as torchvision's detectors lay them, for weights that were trained on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnidet.models.parts.priors.anchors import boxes_around, per_level, place
from omnidet.models.parts.priors.ssd import level_shapes
from omnidet.registry import PRIORS
from omnidet.structures import Priors


@PRIORS.register
class TorchvisionAnchorGenerator:
    """Anchors whose corners lie on whole pixels around the first pixel of every cell.

    A level's stride is the image's side over the grid's, rounded down, so that on a level whose grid was rounded up the
    anchors lie closer than its nominal stride says.

    Args:
        strides: nominal pixels between cells of each level, finest first; the finest one's is taken for exact.
        sizes: the root of an anchor's area in pixels, on each level; or several of them.
        ratios: height over width of the anchors.
    """

    def __init__(self, strides: Sequence[int], sizes: Sequence[float | Sequence[float]],
                 ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> None:
        self.strides = [(s, s) for s in strides]
        root = torch.tensor(list(ratios), device='cpu').float().sqrt()
        halves = torch.stack([1 / root, root], -1) / 2    # (A, 2) as (w, h)
        self.base_anchors: list[Tensor] = []
        for size in per_level('sizes', sizes, self.strides) or []:
            half = (halves[:, None] * torch.tensor(size, device='cpu').view(-1, 1)).flatten(0, 1)    # sizes in turn
            self.base_anchors.append(torch.cat([-half, half], -1).round())

    @property
    def num_base_priors(self) -> list[int]:
        """How many anchors a cell of each level has."""
        return [len(b) for b in self.base_anchors]

    def __call__(self, shapes: Sequence[tuple[int, int]], device: torch.device | str = 'cpu') -> Priors:
        """The anchors of a batch; see `AnchorGenerator`."""
        (h, w), (x, y) = shapes[0], self.strides[0]
        strides = [(w * x // cells[1], h * y // cells[0]) for cells in shapes]
        return place(self.base_anchors, strides, shapes, device)


@PRIORS.register
class TorchvisionSSDAnchorGenerator:
    """SSD's default boxes with sides cut to the image's.

    Args:
        strides: pixels between neighbouring cells of each level, finest first.
        ratios: for each level the ratios beside 1.
        sizes: for each level the side of its smaller square in pixels, and the side of a level that would follow.
        input_size: side of the images in pixels.
    """

    def __init__(self, strides: Sequence[int], ratios: Sequence[Sequence[float]], sizes: Sequence[int],
                 input_size: int = 300) -> None:
        self.strides = [(s, s) for s in strides]
        levels = level_shapes(len(strides), ratios, sizes[:-1], sizes[1:], (0.0, 1.0), input_size)
        self.base_anchors = [boxes_around((s / 2, s / 2), sides.clamp(max=input_size))
                             for s, sides in zip(strides, levels, strict=True)]

    @property
    def num_base_priors(self) -> list[int]:
        """How many anchors a cell of each level has."""
        return [len(b) for b in self.base_anchors]

    def __call__(self, shapes: Sequence[tuple[int, int]], device: torch.device | str = 'cpu') -> Priors:
        """The anchors of a batch; see `AnchorGenerator`."""
        return place(self.base_anchors, self.strides, shapes, device)
