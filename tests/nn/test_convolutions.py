"""The kinds of convolutions and norms: standardised kernels, learned offsets, paddings."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, build_conv, build_norm


def conv(kind, *args, **kwargs):
    return build_conv({'type': kind}, *args, **kwargs)


def test_weight_standardisation_centres_and_scales_each_filter():
    m, x = conv('ConvWS', 4, 6, 3, padding=1, groups=2, bias=True), torch.randn(2, 4, 5, 6)
    want = torch.stack([(w - w.sum() / 18) / (((w - w.sum() / 18) ** 2).sum() / 17).sqrt().add(1e-5) for w in m.weight])
    torch.testing.assert_close(m(x), F.conv2d(x, want, m.bias, padding=1, groups=2), rtol=1e-5, atol=1e-5)


def test_weight_standardisation_does_not_see_a_filters_scale_and_shift():
    m, x = conv('ConvWS', 3, 2, 3), torch.randn(1, 3, 6, 6)
    before = m(x)
    with torch.no_grad():
        m.weight.mul_(torch.tensor([5.0, 3.0]).view(2, 1, 1, 1)).add_(0.7)
    torch.testing.assert_close(m(x), before, rtol=1e-3, atol=1e-3)


def test_conv_aws_learns_nothing_more_but_scales_and_shifts_by_its_buffers():
    m, x = conv('ConvAWS', 3, 2, 3), torch.randn(1, 3, 6, 6)
    assert {n for n, _ in m.named_parameters()} == {'weight', 'bias'}
    m.weight_gamma.copy_(torch.tensor([2.0, 0.5]).view(2, 1, 1, 1))
    m.weight_beta.copy_(torch.tensor([0.1, -0.2]).view(2, 1, 1, 1))
    want = torch.stack([g * (w - w.mean()) / (w.var() + 1e-5).sqrt() + b
                        for w, g, b in zip(m.weight, (2.0, 0.5), (0.1, -0.2), strict=True)])
    torch.testing.assert_close(m(x), F.conv2d(x, want, m.bias), rtol=1e-5, atol=1e-5)


def test_conv_aws_with_the_weights_of_a_plain_convolution_computes_the_same():
    plain, m, x = nn.Conv2d(3, 4, 3), conv('ConvAWS', 3, 4, 3), torch.randn(1, 3, 6, 6)
    holder = nn.Sequential(m)
    missing, unexpected = holder.load_state_dict({'0.' + k: v for k, v in plain.state_dict().items()})
    assert not missing and not unexpected
    torch.testing.assert_close(m(x), plain(x), rtol=1e-5, atol=1e-5)
    again = conv('ConvAWS', 3, 4, 3)
    again.load_state_dict(m.state_dict())
    assert torch.equal(again(x), m(x))


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2', 'DeformConv2dPack'])
@pytest.mark.parametrize('options', [{}, {'stride': 2, 'padding': 1}, {'padding': 2, 'dilation': 2, 'groups': 2},
                                     {'deform_groups': 2, 'padding': 1}, {'deformable_groups': 4}])
def test_deformable_convolutions_begin_as_plain_ones(kind, options):
    m, x = conv(kind, 4, 6, 3, bias=True, **options), torch.randn(2, 4, 7, 8)
    plain = {k: v for k, v in options.items() if not k.startswith('deform')}
    weight = m.weight * 0.5 if kind == 'DCNv2' else m.weight    # the sigmoid of 0 weighs every sample by a half
    torch.testing.assert_close(m(x), F.conv2d(x, weight, m.bias, **plain), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('kind', 'groups', 'channels'), [('DCN', 1, 18), ('DCN', 4, 72), ('DCNv2', 1, 27),
                                                          ('DCNv2', 4, 108)])
def test_offsets_have_the_shapes_of_checkpoints(kind, groups, channels):
    m = conv(kind, 8, 8, 3, bias=False, deform_groups=groups)
    assert {k: tuple(v.shape) for k, v in m.state_dict().items()} == {
        'weight': (8, 8, 3, 3), 'conv_offset.weight': (channels, 8, 3, 3), 'conv_offset.bias': (channels,)}


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_whole_offsets_take_the_pixels_that_they_point_at(kind):
    """Each tap of each deformable group has an offset (dy, dx), and in DCNv2 a weight, of its own."""
    torch.manual_seed(0)
    B, C, H, W, groups = 1, 4, 6, 7, 2
    m, x = conv(kind, C, 3, 3, padding=1, bias=False, deform_groups=groups), torch.randn(B, C, H, W)
    offset = torch.randint(-3, 4, (groups, 9, 2))
    logit = torch.randn(groups, 9)
    with torch.no_grad():
        m.conv_offset.bias[:groups * 18] = offset.flatten().float()
        if kind == 'DCNv2':
            m.conv_offset.bias[groups * 18:] = logit.flatten()
    want = torch.zeros(3, H, W)
    for c in range(C):
        for tap in range(9):
            dy, dx = offset[c // (C // groups), tap].tolist()
            factor = torch.sigmoid(logit[c // (C // groups), tap]) if kind == 'DCNv2' else 1.0
            for i in range(H):
                for j in range(W):
                    y, z = i - 1 + tap // 3 + dy, j - 1 + tap % 3 + dx
                    if 0 <= y < H and 0 <= z < W:
                        want[:, i, j] += m.weight[:, c, tap // 3, tap % 3] * x[0, c, y, z] * factor
    torch.testing.assert_close(m(x)[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_positions_keep_their_precision_in_half_types(kind):
    m, x = conv(kind, 4, 4, 3, padding=1), torch.randn(1, 4, 6, 6)
    nn.init.normal_(m.conv_offset.weight, std=0.1)
    want = m(x)
    with torch.autocast('cpu', torch.bfloat16):
        got = [m(x), m(x.bfloat16())]
    got.append(m.bfloat16()(x.bfloat16()))
    assert [y.dtype for y in got] == [torch.float32, torch.bfloat16, torch.bfloat16]
    for y in got:
        torch.testing.assert_close(y.float(), want, rtol=0.05, atol=0.05)


def test_deformable_convolutions_compile_and_run_without_values():
    with torch.device('meta'):
        assert conv('DCNv2', 4, 6, 3, stride=2)(torch.empty(2, 4, 9, 9)).shape == (2, 6, 4, 4)
    m, x = conv('DCN', 4, 6, 3), torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(torch.compile(m, backend='eager', fullgraph=True)(x), m(x))


def test_offsets_learn():
    m = conv('DCNv2', 2, 2, 3, padding=1)
    m(torch.randn(1, 2, 6, 6)).square().sum().backward()
    assert m.conv_offset.weight.grad.abs().sum() > 0


def test_layer_norm_of_maps_is_over_the_channels_of_each_pixel():
    name, m = build_norm({'type': 'LN2d', 'eps': 1e-6}, 5)
    nn.init.uniform_(m.weight)
    x = torch.randn(2, 5, 3, 4)
    want = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    assert name == 'ln'
    torch.testing.assert_close(m(x), want * m.weight[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['MMSyncBN', 'SyncBN'])
def test_norms_over_processes_are_plain_where_there_is_one(kind):
    name, m = build_norm({'type': kind, 'momentum': 0.2, 'requires_grad': False}, 4)
    assert name == 'bn' and type(m) is nn.BatchNorm2d and m.momentum == 0.2 and not m.weight.requires_grad


def test_a_norm_may_be_named_by_its_class():
    name, m = build_norm({'type': nn.GroupNorm, 'num_groups': 2}, 4)
    assert name == 'gn' and m.num_channels == 4


@pytest.mark.parametrize('mode', ['reflect', 'replicate', 'circular'])
def test_a_convolution_module_pads_as_it_is_told(mode):
    m, x = ConvModule(2, 3, 3, padding=1, padding_mode=mode, act_cfg=None), torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(m(x), F.conv2d(F.pad(x, (1, 1, 1, 1), mode), m.conv.weight, m.conv.bias))


def test_a_kind_that_pads_with_zeros_alone_says_so():
    with pytest.raises(ConfigError, match="no argument 'padding_mode'"):
        ConvModule(2, 2, 3, conv_cfg={'type': 'DCN'}, padding_mode='reflect')


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    m, x = ConvModule(3, 4, 1, with_spectral_norm=True), torch.randn(1, 3, 4, 4)
    for _ in range(100):    # a step of the power iteration each
        m(x)
    assert abs(torch.linalg.matrix_norm(m.conv.weight.flatten(1), 2).item() - 1) < 1e-3
