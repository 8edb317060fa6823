"""Predictors with normalised weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omnidet.errors import ConfigError
from omnidet.nn.layers import build_conv
from omnidet.nn.linear import MapLinear, build_linear


def test_a_plain_layer_is_the_default():
    assert type(build_linear(None, 3, 4)) is torch.nn.Linear


def test_normed_linear_gives_cosines():
    layer = build_linear({'type': 'NormedLinear', 'tempearture': 20}, 6, 4)
    x = torch.randn(5, 6)
    want = 20 * F.cosine_similarity(x[:, None], layer.weight[None], dim=-1) + layer.bias
    assert torch.allclose(layer(x), want, rtol=1e-3, atol=1e-3)
    assert torch.allclose(layer(3 * x), layer(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('over_kernel', [False, True])
def test_normed_convolution_has_unit_weights(over_kernel):
    conv = build_conv({'type': 'NormedConv2d', 'tempearture': 10, 'norm_over_kernel': over_kernel}, 3, 4, 3, padding=1)
    x = torch.randn(2, 3, 5, 5)
    weight = F.normalize(conv.weight.flatten(1), dim=1).view_as(conv.weight) if over_kernel \
        else F.normalize(conv.weight, dim=1)
    want = F.conv2d(10 * F.normalize(x, dim=1), weight, conv.bias, padding=1)
    assert torch.allclose(conv(x), want, rtol=1e-3, atol=1e-3)


def test_an_unknown_layer_is_told():
    with pytest.raises(ConfigError, match='NormedLinear'):
        build_linear({'type': 'NormedLiner'}, 3, 4)


@pytest.mark.parametrize('maps', [3, 300])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_a_linear_layer_on_maps_is_one_on_their_rows(maps, layout):
    layer, x = MapLinear(4 * 3 * 2, 5), torch.randn(maps, 4, 3, 2).to(memory_format=layout).requires_grad_()
    want = F.linear(x.reshape(maps, -1), layer.weight, layer.bias)
    assert torch.allclose(layer(x), want, atol=1e-5) and torch.allclose(layer(x.flatten(1)), want, atol=1e-5)
    got = torch.autograd.grad(layer(x).square().sum(), [x, layer.weight])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(
        got, torch.autograd.grad(want.square().sum(), [x, layer.weight]), strict=True))
