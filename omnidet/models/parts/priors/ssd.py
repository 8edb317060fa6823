"""The default boxes of SSD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.models.parts.priors.anchors import Stride, anchor_shapes, boxes_around, place, stride_pairs
from omnidet.registry import PRIORS
from omnidet.structures import Priors

Sizes = Sequence[int]

FIRST_LEVEL = {(300, 15): (7, 15), (300, 20): (10, 20), (512, 10): (4, 10), (512, 15): (7, 15)}
"""Least and largest size of the first level in percent, for an input size and the lower end of the range in percent."""


@PRIORS.register
class SSDAnchorGenerator:
    """SSD's default boxes (arXiv:1512.02325, section 2.2): sizes in even steps over the levels, several ratios each.

    A cell has a square of the least size, one of the geometric mean of least and largest size, and for each ratio r
    boxes of the least size's area with aspect 1 / r and r.

    Args:
        strides: pixels between neighbouring cells of each level, finest first.
        ratios: for each level the ratios beside 1.
        min_sizes, max_sizes: for each level, in pixels; computed from `basesize_ratio_range` where None.
        basesize_ratio_range: sizes of the second and the last level, as parts of the input.
        input_size: side of the images in pixels; 300 or 512 where sizes are computed.
        scale_major: accepted as configs carry it; a cell's anchors always have the order above.
        use_box_type: accepted as configs carry it; boxes are plain tensors here.
    """

    def __init__(self, strides: Sequence[Stride], ratios: Sequence[Sequence[float]], min_sizes: Sizes | None = None,
                 max_sizes: Sizes | None = None, basesize_ratio_range: tuple[float, float] = (0.15, 0.9),
                 input_size: int = 300, scale_major: bool = True, use_box_type: bool = False) -> None:
        self.strides = stride_pairs(strides)
        levels = level_shapes(len(self.strides), ratios, min_sizes, max_sizes, basesize_ratio_range, input_size)
        self.base_anchors = [boxes_around((sx / 2, sy / 2), shapes)
                             for (sx, sy), shapes in zip(self.strides, levels, strict=True)]

    @property
    def num_base_priors(self) -> list[int]:
        """How many anchors a cell of each level has."""
        return [len(b) for b in self.base_anchors]

    def __call__(self, shapes: Sequence[tuple[int, int]], device: torch.device | str = 'cpu') -> Priors:
        """The anchors of a batch; see `AnchorGenerator`."""
        return place(self.base_anchors, self.strides, shapes, device)


@PRIORS.register
class LegacySSDAnchorGenerator:
    """SSD's default boxes as MMDetection 1.x had them: their last pixel is x2, y2, on whole pixels.

    Args: see `SSDAnchorGenerator`.
    """

    def __init__(self, strides: Sequence[Stride], ratios: Sequence[Sequence[float]],
                 basesize_ratio_range: tuple[float, float] = (0.15, 0.9), input_size: int = 300,
                 scale_major: bool = True, use_box_type: bool = False) -> None:
        self.strides = stride_pairs(strides)
        levels = level_shapes(len(self.strides), ratios, None, None, basesize_ratio_range, input_size)
        self.base_anchors = [boxes_around(((sx - 1) / 2, (sy - 1) / 2), shapes - 1).round()
                             for (sx, sy), shapes in zip(self.strides, levels, strict=True)]

    @property
    def num_base_priors(self) -> list[int]:
        """How many anchors a cell of each level has."""
        return [len(b) for b in self.base_anchors]

    def __call__(self, shapes: Sequence[tuple[int, int]], device: torch.device | str = 'cpu') -> Priors:
        """The anchors of a batch; see `AnchorGenerator`."""
        return place(self.base_anchors, self.strides, shapes, device)


def level_shapes(levels: int, ratios: Sequence[Sequence[float]], min_sizes: Sizes | None, max_sizes: Sizes | None,
                 size_range: tuple[float, float], input_size: int) -> list[Tensor]:
    """For each level the (A, 2) widths and heights of a cell's anchors, in pixels.

    Raises:
        ConfigError: sizes and ratios do not fit the levels, or no sizes are known for the input size.
    """
    if (min_sizes is None) != (max_sizes is None):
        raise ConfigError('anchor_generator: give both min_sizes and max_sizes, or neither; found '
                          f'min_sizes={min_sizes}, max_sizes={max_sizes}')
    if min_sizes is None or max_sizes is None:
        min_sizes, max_sizes = even_sizes(levels, size_range, input_size)
    if not levels == len(ratios) == len(min_sizes) == len(max_sizes):
        raise ConfigError(f'anchor_generator: {levels} strides, {len(ratios)} ratios, {len(min_sizes)} min_sizes and '
                          f'{len(max_sizes)} max_sizes; there must be equally many')
    shapes = []
    for least, largest, beside in zip(min_sizes, max_sizes, ratios, strict=True):
        of_least = anchor_shapes([1.0, *(q for r in beside for q in (1 / r, r))], [1.0], scale_major=True) * least
        mean = torch.full((1, 2), (largest / least) ** 0.5, device='cpu') * least
        shapes.append(torch.cat([of_least[:1], mean, of_least[1:]]))
    return shapes


def even_sizes(levels: int, size_range: tuple[float, float], input_size: int) -> tuple[list[int], list[int]]:
    """Least and largest sizes in pixels: the first level's are set, the others rise in even steps of percent.

    Raises:
        ConfigError: there is no first level known for the input size and the range.
    """
    low, high = round(size_range[0] * 100), round(size_range[1] * 100)
    if (input_size, low) not in FIRST_LEVEL:
        raise ConfigError(f'anchor_generator: no sizes are known for input_size={input_size} and '
                          f'basesize_ratio_range={size_range}; give min_sizes and max_sizes, or one of '
                          f'{sorted((size, percent / 100) for size, percent in FIRST_LEVEL)}')
    step = (high - low) // max(levels - 2, 1)
    percents = [FIRST_LEVEL[input_size, low], *((p, p + step) for p in range(low, high + 1, step))]
    return [input_size * a // 100 for a, _ in percents], [input_size * b // 100 for _, b in percents]
