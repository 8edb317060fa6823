"""Corner pooling against a loop over pixels."""

from __future__ import annotations

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.ops.corner_pool import DIRECTIONS, corner_pool

WALKS = {'top': lambda x, i, j: x[i:, j], 'bottom': lambda x, i, j: x[:i + 1, j],
         'left': lambda x, i, j: x[i, j:], 'right': lambda x, i, j: x[i, :j + 1]}
"""What a pixel (i, j) of (H, W) is the greatest of (arXiv:1808.01244, equations 6 and 7, and their mirror images)."""


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_a_pixel_is_the_greatest_of_those_on_its_side(direction):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7)
    got = corner_pool(x, direction)
    for b, c, i, j in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        assert got[b, c, i, j] == WALKS[direction](x[b, c], i, j).max()


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_gradients_are_those_of_finite_differences(direction):
    torch.manual_seed(0)
    x = torch.randn(1, 1, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: corner_pool(t, direction), (x,))


def test_it_compiles_whole():
    x = torch.randn(1, 2, 4, 5, requires_grad=True)
    for direction in DIRECTIONS:
        compiled = torch.compile(corner_pool, fullgraph=True, backend='aot_eager')(x, direction)
        assert torch.equal(compiled, corner_pool(x, direction))


def test_an_unknown_direction_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'bottom'"):
        corner_pool(torch.zeros(1, 1, 2, 2), 'botom')
