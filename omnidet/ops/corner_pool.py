"""Corner pooling: running maxima along rows and columns of a map (CornerNet, arXiv:1808.01244, section 3.4)."""

from __future__ import annotations

from torch import Tensor

from omnidet.errors import ConfigError, did_you_mean

DIRECTIONS = {'top': (-2, True), 'bottom': (-2, False), 'left': (-1, True), 'right': (-1, False)}
"""direction: (the dimension that it goes along, whether from its end to its beginning)."""


def corner_pool(x: Tensor, direction: str) -> Tensor:
    """The greatest value met so far on a walk over the map towards one of its sides.

    A top-left corner has its object below and to the right: 'top' is the greatest value from a pixel down to the last
    row, 'left' that from it to the last column. 'bottom' and 'right' look up and to the left, for the other corner.

    Args:
        x: (..., H, W).
        direction: 'top', 'bottom', 'left' or 'right'.

    Returns:
        (..., H, W). Where values are equal, the gradient goes to one of them.

    Raises:
        ConfigError: another direction.
    """
    if direction not in DIRECTIONS:
        raise ConfigError(f'corner_pool: direction is {direction!r}{did_you_mean(str(direction), DIRECTIONS)}; allowed '
                          f'are {", ".join(DIRECTIONS)}')
    dim, backwards = DIRECTIONS[direction]
    pooled: Tensor = (x.flip(dim) if backwards else x).cummax(dim).values
    return pooled.flip(dim) if backwards else pooled
