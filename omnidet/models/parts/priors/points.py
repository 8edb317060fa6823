"""One point for each cell of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnidet.registry import PRIORS
from omnidet.structures import Priors


@PRIORS.register
class MlvlPointGenerator:
    """One point per cell of each level's grid.

    Args:
        strides: pixels between neighbouring points of each level, finest first.
        offset: where in its cell the point lies, as a part of the stride: 0 at its top left, 0.5 in its middle.
    """

    def __init__(self, strides: Sequence[int | Sequence[int]], offset: float = 0.5) -> None:
        self.strides = [(s, s) if isinstance(s, (int, float)) else (s[0], s[1]) for s in strides]    # (x, y)
        self.offset = offset

    @property
    def num_base_priors(self) -> list[int]:
        """How many points a cell of each level has."""
        return [1] * len(self.strides)

    def __call__(self, shapes: Sequence[tuple[int, int]], device: torch.device | str = 'cpu') -> Priors:
        """The points of a batch.

        Args:
            shapes: (h, w) of each level's grid, in cells.
            device: where they should lie.

        Returns:
            Priors over all levels, row by row: boxes (N, 4) without extent.
        """
        points, strides = [], []
        for (h, w), (sx, sy) in zip(shapes, self.strides, strict=True):
            x = (torch.arange(w, device=device, dtype=torch.float32) + self.offset) * sx
            y = (torch.arange(h, device=device, dtype=torch.float32) + self.offset) * sy
            xy = torch.stack([x.repeat(h), y.repeat_interleave(w)], -1)
            points.append(torch.cat([xy, xy], -1))
            strides.append(torch.full((h * w,), float(sx), device=device))
        return Priors(torch.cat(points), torch.cat(strides), tuple(h * w for h, w in shapes))


def inside_image(priors: Priors, sizes: Tensor, allowed_border: float = -1) -> Tensor:
    """Which priors may be trained on, image by image.

    Args:
        priors: N priors.
        sizes: (B, 2), (h, w) of each image before the batch's padding.
        allowed_border: where it is not negative, anchors that leave the image by more pixels than this are out too.

    Returns:
        (B, N) bool: True for priors whose cell begins inside the image.
    """
    boxes, limit = priors.boxes, sizes.flip(-1).to(priors.boxes.dtype)[:, None]    # (N, 4), (B, 1, 2) as (w, h)
    stride = priors.strides[:, None]
    cell = ((boxes[:, :2] + boxes[:, 2:]) / (2 * stride) + 1e-3).floor()    # (N, 2), safe from rounding errors
    corner = cell * stride
    inside = (corner < limit).all(-1)    # (B, N)
    if allowed_border >= 0:
        inside = inside & (boxes[:, :2] >= -allowed_border).all(-1) & (boxes[:, 2:] < limit + allowed_border).all(-1)
    return inside
