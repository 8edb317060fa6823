"""Folding batch norms into convolutions changes nothing but the speed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from omnidet import build_model, load_config
from omnidet.inference import fuse_conv_bn
from omnidet.nn import ConvModule
from omnidet.registry import BACKBONES


def unsettle(model):
    """Give every batch norm statistics and weights that matter."""
    torch.manual_seed(0)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value, low, high in ((m.running_mean, -.3, .3), (m.running_var, .5, 2), (m.weight, .5, 1.5),
                                     (m.bias, -.3, .3)):
                nn.init.uniform_(value, low, high)
    return model.eval()


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


class WeightStandardised(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


@pytest.mark.parametrize(('model', 'left'), [
    (ConvModule(3, 8, 3, padding=1, norm_cfg=dict(type='BN')), 0),
    (ConvModule(3, 8, 3, norm_cfg=dict(type='BN', eps=1e-3), bias=True, groups=1, act_cfg=None), 0),
    (nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=3),
                   nn.BatchNorm2d(6)), 0),
    (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)), 2),
    (ConvModule(3, 3, 3, norm_cfg=dict(type='BN'), order=('norm', 'conv', 'act')), 1),
    (ConvModule(3, 3, 3, norm_cfg=dict(type='BN'), order=('conv', 'act', 'norm')), 1),
    (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)), 1),
    (nn.Sequential(WeightStandardised(3, 4, 1), nn.BatchNorm2d(4)), 1),
    (ConvModule(3, 4, 3, norm_cfg=dict(type='BN'), with_spectral_norm=True), 1),
])
@torch.no_grad()
def test_outputs_stay_the_same_and_only_sure_pairs_are_fused(model, left):
    model = unsettle_where_tracked(model)
    x = torch.randn(2, 3, 9, 9)
    fused = fuse_conv_bn(model)
    torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-5)
    assert len(norms(fused)) == left


def unsettle_where_tracked(model):
    return unsettle(model) if all(m.running_mean is not None for m in norms(model)) else model.eval()


@pytest.mark.parametrize(('options', 'left'), [
    ({'depth': 18}, 0), ({'depth': 50}, 0), ({'depth': 50, 'deep_stem': True, 'avg_down': True}, 0),
    ({'depth': 50, 'style': 'caffe', 'plugins': [{'cfg': {'type': 'ContextBlock', 'ratio': 0.5},
                                                  'position': 'after_conv3'}]}, 0),
    ({'depth': 50, 'dcn': {'type': 'DCNv2'}, 'stage_with_dcn': (False, False, False, True)}, 3),
    ({'depth': 18, 'conv_cfg': {'type': 'ConvWS'}}, 20)])    # what is not a plain convolution keeps its norm
@torch.no_grad()
def test_residual_networks_give_the_same(options, left):
    model = unsettle(BACKBONES.build({'type': 'ResNet', 'base_channels': 8, **options}))
    x = torch.randn(2, 3, 40, 56)
    fused = fuse_conv_bn(model)
    for got, want in zip(fused(x), model(x), strict=True):
        torch.testing.assert_close(got / want.abs().max(), want / want.abs().max(), rtol=1e-4, atol=1e-4)
    assert len(norms(fused)) == left


@torch.no_grad()
def test_levels_that_share_convolutions_keep_their_own_norms():
    shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    levels = nn.ModuleList(ConvModule(4, 4, 3, padding=1, norm_cfg=dict(type='BN')) for _ in range(3))
    for level in levels:
        level.conv = shared
    unsettle(levels)
    fused, x = fuse_conv_bn(levels), torch.randn(1, 4, 6, 6)
    for a, b in zip(fused, levels, strict=True):
        torch.testing.assert_close(a(x), b(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fused[0](x), fused[1](x))


@torch.no_grad()
def test_rtmdet_as_a_whole_gives_the_same_and_stays_as_it_was_built():
    model = unsettle(build_model(load_config('rtmdet/rtmdet_tiny')))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = fuse_conv_bn(model)
    x = torch.randn(1, 3, 64, 64)
    ours, theirs = (m.bbox_head.forward(m.extract_feat(x)) for m in (fused, model))
    for name in theirs:
        scale = theirs[name].abs().max()
        torch.testing.assert_close(ours[name] / scale, theirs[name] / scale, rtol=1e-4, atol=1e-4)
    assert not norms(fused) and norms(model)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
