"""Anchors: boxes of several scales and aspect ratios at every cell of a pyramid's grids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.registry import PRIORS
from omnidet.structures import Priors

Stride = int | float | Sequence[int | float]


@PRIORS.register
class AnchorGenerator:
    """Boxes of given scales and aspect ratios around the corner (or another point) of every cell.

    Args:
        strides: pixels between neighbouring cells of each level, finest first.
        ratios: height over width of the anchors.
        scales: sides of the anchors, as multiples of the base size.
        base_sizes: side in pixels of a square anchor of scale 1 on each level; the strides by default.
        scale_major: number the anchors of a cell ratio by ratio (True), or scale by scale.
        octave_base_scale: with `scales_per_octave`, in place of `scales`: the first scale of the octave.
        scales_per_octave: how many scales there are in an octave (RetinaNet, arXiv:1708.02002, section 4).
        centers: (x, y) in pixels of the first cell's anchors on each level.
        center_offset: where in its base size an anchor's centre lies, in place of `centers`.
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    def __init__(self, strides: Sequence[Stride], ratios: Sequence[float], scales: Sequence[float] | None = None,
                 base_sizes: Sequence[float] | None = None, scale_major: bool = True,
                 octave_base_scale: float | None = None, scales_per_octave: int | None = None,
                 centers: Sequence[tuple[float, float]] | None = None, center_offset: float = 0.0,
                 use_box_type: bool = False) -> None:
        self.strides = stride_pairs(strides)
        shapes = anchor_shapes(ratios, all_scales(scales, octave_base_scale, scales_per_octave), scale_major)
        sizes = per_level('base_sizes', base_sizes, self.strides) or [min(s) for s in self.strides]
        at = per_level('centers', centers, self.strides) or [(center_offset * s, center_offset * s) for s in sizes]
        self.base_anchors = [boxes_around(c, shapes * s) for c, s in zip(at, sizes, strict=True)]

    @property
    def num_base_priors(self) -> list[int]:
        """How many anchors a cell of each level has."""
        return [len(b) for b in self.base_anchors]

    def __call__(self, shapes: Sequence[tuple[int, int]], device: torch.device | str = 'cpu') -> Priors:
        """The anchors of a batch.

        Args:
            shapes: (h, w) of each level's grid, in cells.
            device: where they should lie.

        Returns:
            Priors over all levels, row by row, in a cell by anchor: boxes (N, 4).
        """
        return place(self.base_anchors, self.strides, shapes, device)


@PRIORS.register
class LegacyAnchorGenerator:
    """Anchors of MMDetection 1.x: their last pixel is x2, y2, and their corners lie on whole pixels.

    Args: see `AnchorGenerator`; `center_offset` is of the base size less one pixel.
    """

    def __init__(self, strides: Sequence[Stride], ratios: Sequence[float], scales: Sequence[float] | None = None,
                 base_sizes: Sequence[float] | None = None, scale_major: bool = True,
                 octave_base_scale: float | None = None, scales_per_octave: int | None = None,
                 centers: Sequence[tuple[float, float]] | None = None, center_offset: float = 0.0,
                 use_box_type: bool = False) -> None:
        self.strides = stride_pairs(strides)
        shapes = anchor_shapes(ratios, all_scales(scales, octave_base_scale, scales_per_octave), scale_major)
        sizes = per_level('base_sizes', base_sizes, self.strides) or [min(s) for s in self.strides]
        at = per_level('centers', centers, self.strides) or \
            [(center_offset * (s - 1), center_offset * (s - 1)) for s in sizes]
        self.base_anchors = [boxes_around(c, shapes * s - 1).round() for c, s in zip(at, sizes, strict=True)]

    @property
    def num_base_priors(self) -> list[int]:
        """How many anchors a cell of each level has."""
        return [len(b) for b in self.base_anchors]

    def __call__(self, shapes: Sequence[tuple[int, int]], device: torch.device | str = 'cpu') -> Priors:
        """The anchors of a batch; see `AnchorGenerator`."""
        return place(self.base_anchors, self.strides, shapes, device)


def stride_pairs(strides: Sequence[Stride]) -> list[tuple[int | float, int | float]]:
    """Each level's stride as (x, y)."""
    return [(s, s) if isinstance(s, (int, float)) else (s[0], s[1]) for s in strides]


def per_level(name: str, values: Sequence | None, strides: Sequence) -> list | None:
    """`values` as a list, one for each level.

    Raises:
        ConfigError: there are more or fewer than levels.
    """
    if values is not None and len(values) != len(strides):
        raise ConfigError(f'anchor_generator.{name}: {len(values)} values for {len(strides)} strides')
    return None if values is None else list(values)


def all_scales(scales: Sequence[float] | None, octave_base_scale: float | None,
               scales_per_octave: int | None) -> list[float]:
    """The anchors' scales: as given, or at even steps through an octave.

    Raises:
        ConfigError: both ways are used, or neither.
    """
    octave = octave_base_scale is not None and scales_per_octave is not None
    if (scales is not None) == octave:
        raise ConfigError('anchor_generator needs either scales, or octave_base_scale and scales_per_octave; found '
                          f'scales={scales}, octave_base_scale={octave_base_scale}, '
                          f'scales_per_octave={scales_per_octave}')
    if scales is not None:
        return list(scales)
    assert octave_base_scale is not None and scales_per_octave is not None
    return [octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)]


def anchor_shapes(ratios: Sequence[float], scales: Sequence[float], scale_major: bool) -> Tensor:
    """(A, 2) widths and heights of a cell's anchors for a base size of 1; equal scales have equal areas."""
    root = torch.tensor(list(ratios), device='cpu').float().sqrt()
    shapes = torch.stack([1 / root, root], -1)    # (R, 2)
    scale = torch.tensor(list(scales), device='cpu').float()    # (S,)
    if scale_major:
        return (shapes[:, None] * scale[:, None]).flatten(0, 1)
    return (scale[:, None, None] * shapes).flatten(0, 1)


def boxes_around(center: tuple[float, float], sides: Tensor) -> Tensor:
    """(A, 4) boxes of `sides` (A, 2) as (w, h) around one point."""
    c = torch.tensor(center, dtype=torch.float32, device='cpu')
    return torch.cat([c - 0.5 * sides, c + 0.5 * sides], -1)


def place(base: Sequence[Tensor], strides: Sequence[tuple[float, float]], shapes: Sequence[tuple[int, int]],
          device: torch.device | str) -> Priors:
    """The anchors `base` of a level's first cell, repeated at every cell of its grid; over all levels."""
    boxes, spacing = [], []
    for anchors, (sx, sy), (h, w) in zip(base, strides, shapes, strict=True):
        x = torch.arange(w, device=device, dtype=torch.float32) * sx
        y = torch.arange(h, device=device, dtype=torch.float32) * sy
        shift = torch.stack([x.expand(h, w), y[:, None].expand(h, w)] * 2, -1)    # (h, w, 4)
        boxes.append((shift[:, :, None] + anchors.to(device)).reshape(-1, 4))
        spacing.append(torch.full((h * w * len(anchors),), float(sx), device=device))
    return Priors(torch.cat(boxes), torch.cat(spacing), tuple(len(b) for b in boxes))
