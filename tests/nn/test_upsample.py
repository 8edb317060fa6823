"""Layers that enlarge a map, against their definitions."""

from __future__ import annotations

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.nn import build_upsample

X = torch.arange(24.0).reshape(1, 4, 2, 3)


def test_nearest_repeats_cells():
    out = build_upsample({'type': 'nearest', 'scale_factor': 2}, 4, 9)(X)
    assert torch.equal(out, X.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_bilinear_puts_cells_at_their_centres():
    out = build_upsample({'type': 'bilinear', 'scale_factor': 2}, 4, 4)(X)
    # output centres lie a quarter of a cell beside those of the input
    row = X[0, 0, 0]
    expected = torch.stack([row[0], row[0] * .75 + row[1] * .25, row[0] * .25 + row[1] * .75,
                            row[1] * .75 + row[2] * .25, row[1] * .25 + row[2] * .75, row[2]])
    torch.testing.assert_close(out[0, 0, 0], expected)


def test_deconv_gives_each_cell_a_window_of_its_own():
    layer = build_upsample({'type': 'deconv', 'scale_factor': 2}, 4, 5)
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == {'weight': (4, 5, 2, 2), 'bias': (5,)}
    out = layer(X)
    assert out.shape == (1, 5, 4, 6)
    window = torch.einsum('c,cohw->ohw', X[0, :, 1, 2], layer.weight) + layer.bias[:, None, None]
    torch.testing.assert_close(out[0, :, 2:, 4:], window)


def test_pixel_shuffle_makes_channels_to_pixels():
    layer = build_upsample({'type': 'pixel_shuffle', 'scale_factor': 2, 'upsample_kernel': 1}, 4, 3)
    assert tuple(layer.upsample_conv.weight.shape) == (12, 4, 1, 1)
    channels, out = layer.upsample_conv(X), layer(X)
    assert out.shape == (1, 3, 4, 6)
    for c, dy, dx in [(0, 0, 0), (1, 0, 1), (2, 1, 0), (2, 1, 1)]:
        assert torch.equal(out[0, c, dy::2, dx::2], channels[0, 4 * c + 2 * dy + dx])


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'nearest'"):
        build_upsample({'type': 'nearst'}, 1, 1)
    with pytest.raises(ConfigError, match="no argument 'scale'"):
        build_upsample({'type': 'nearest', 'scale': 2}, 1, 1)
