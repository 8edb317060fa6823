"""The hourglass network: how its ways meet, with layers whose effect is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from omnidet.errors import ConfigError
from omnidet.models.backbones.hourglass import HourglassModule, HourglassNet

BN = {'type': 'BN'}


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_the_ways_of_an_hourglass_are_added():
    module = HourglassModule(1, (2, 2), (1, 1), BN)
    module.up1, module.low1, module.low2, module.low3 = Times(10), nn.AvgPool2d(2), Times(3), Times(2)
    x = torch.tensor([[1.0, 3.0, 5.0, 5.0], [0.0, 0.0, 7.0, 7.0]])[None, None]
    assert module(x).tolist() == [[[[16.0, 36.0, 86.0, 86.0], [6.0, 6.0, 106.0, 106.0]]]]    # 10 x + 6 * mean


def test_a_hourglass_sees_the_one_before_and_its_input():
    net = HourglassNet(1, 2, (4, 4), (1, 1), feat_channels=4)
    net.stem, net.inters[0] = Times(1), Times(100)
    net.hourglass_modules[0], net.hourglass_modules[1] = Times(2), Times(3)
    net.out_convs[0], net.out_convs[1] = Times(5), Times(7)
    net.conv1x1s[0], net.remap_convs[0] = Times(1), Times(-0.2)
    first, second = net(torch.tensor([1.0, -1.0]))
    assert first.tolist() == [10.0, -10.0]
    # relu(x - 0.2 * first) = relu(-x), times 100 * 3 * 7
    assert second.tolist() == [0.0, 2100.0]


@pytest.mark.parametrize('size', [(64, 64), (97, 71), (127, 33)])
def test_maps_have_a_quarter_of_the_image_rounded_up(size):
    net = HourglassNet(3, 2, (8, 8, 12, 16), (1, 1, 1, 2), feat_channels=6).eval()
    out = net(torch.zeros(1, 3, *size))
    assert [tuple(x.shape) for x in out] == [(1, 6, -(-size[0] // 4), -(-size[1] // 4))] * 2


def test_layers_are_named_by_sizes_inside_sizes():
    names = dict(HourglassNet(2, 1, (4, 6, 8), (1, 2, 3)).named_parameters())
    assert names['hourglass_modules.0.low2.low2.2.conv1.weight'].shape == (8, 8, 3, 3)
    assert names['hourglass_modules.0.low2.low3.1.downsample.0.weight'].shape == (6, 8, 1, 1)
    assert not any(name.startswith(('inters', 'conv1x1s', 'remap_convs')) for name in names)


@pytest.mark.parametrize('kwargs, message', [
    ({'downsample_times': 6}, '6 halvings need 7 stage_channels'),
    ({'stage_blocks': (2, 2)}, 'found 6 and 2'),
    ({'num_stacks': 0}, 'num_stacks is 0'),
])
def test_what_does_not_fit_is_said(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        HourglassNet(**kwargs)
