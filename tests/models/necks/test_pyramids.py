"""FPN, PAFPN, ChannelMapper and SSDNeck, against loops that follow their papers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.nn.pyramid import top_down
from omnidet.registry import NECKS

CHANNELS, SIZES = [3, 4, 5, 6], [(13, 17), (7, 9), (4, 5), (2, 3)]    # odd, as images of any size give them


def feats(seed: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, *s, generator=g) for c, s in zip(CHANNELS, SIZES)]


def build(kind: str, **more: object) -> torch.nn.Module:
    torch.manual_seed(1)
    return NECKS.build({'type': kind, 'in_channels': CHANNELS, 'out_channels': 8, 'num_outs': 5, **more})


def at(x: Tensor, y: int, col: int) -> Tensor:
    return x[:, :, y, col]


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Each cell of the larger map takes the one of the smaller that it lies in."""
    (h, w), (H, W) = x.shape[2:], size
    rows, cols = [[int(i * n / m) for i in range(m)] for n, m in ((h, H), (w, W))]
    return torch.stack([torch.stack([at(x, r, c) for c in cols], -1) for r in rows], -2)


def naive_pyramid(neck: torch.nn.Module, x: list[Tensor], start: int, end: int) -> tuple[list[Tensor], list[Tensor]]:
    """Laterals with what came down to them, and the outputs; convolutions by torch, the rest by hand."""
    laterals = [F.conv2d(x[i], neck.lateral_convs[i - start].conv.weight, neck.lateral_convs[i - start].conv.bias)
                for i in range(start, end)]
    for i in reversed(range(len(laterals) - 1)):
        laterals[i] = laterals[i] + nearest(laterals[i + 1], laterals[i].shape[2:])
    return laterals, [conv3(neck.fpn_convs[i], lateral) for i, lateral in enumerate(laterals)]


def conv3(module: torch.nn.Module, x: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(x, module.conv.weight, module.conv.bias, stride=stride, padding=1)


@pytest.mark.parametrize('source', [False, True, 'on_input', 'on_lateral', 'on_output'])
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('start', [0, 1])
def test_fpn_equals_a_loop(source, relu, start):
    neck = build('FPN', add_extra_convs=source, relu_before_extra_convs=relu, start_level=start, num_outs=6 - start)
    x = feats()
    laterals, expected = naive_pyramid(neck, x, start, 4)
    n = len(laterals)
    if source:
        first = {True: x[-1], 'on_input': x[-1], 'on_lateral': laterals[-1], 'on_output': expected[-1]}[source]
        expected.append(conv3(neck.fpn_convs[n], first, 2))
        expected.append(conv3(neck.fpn_convs[n + 1], expected[-1].clamp(min=0) if relu else expected[-1], 2))
    else:
        assert len(neck.fpn_convs) == n
        expected += [F.max_pool2d(expected[-1], 1, stride=2), F.max_pool2d(expected[-1], 1, stride=4)]
    out = neck(x)
    assert [o.shape for o in out] == [e.shape for e in expected]
    for o, e in zip(out, expected):
        torch.testing.assert_close(o, e)


def test_fpn_ends_before_the_last_level():
    neck = build('FPN', start_level=1, end_level=2, num_outs=2)
    assert len(neck.lateral_convs) == len(neck.fpn_convs) == 2
    for o, e in zip(neck(feats()), naive_pyramid(neck, feats(), 1, 3)[1], strict=True):
        torch.testing.assert_close(o, e)


def test_fpn_enlarges_as_upsample_cfg_says():
    x = [torch.randn(1, c, 16 >> i, 24 >> i) for i, c in enumerate(CHANNELS)]
    by_factor = build('FPN', upsample_cfg={'scale_factor': 2, 'mode': 'nearest'})
    for a, b in zip(by_factor(x), build('FPN')(x)):    # even sizes: both are the same
        assert torch.equal(a, b)
    smooth = build('FPN', upsample_cfg={'mode': 'bilinear', 'align_corners': False})(x)
    neck = build('FPN')
    lateral = [neck.lateral_convs[i](x[i]) for i in (2, 3)]
    up = F.interpolate(lateral[1], size=(4, 6), mode='bilinear', align_corners=False)
    torch.testing.assert_close(smooth[2], neck.fpn_convs[2](lateral[0] + up))


def test_norm_and_activation_are_left_out_where_asked():
    neck = build('FPN', norm_cfg={'type': 'BN'}, act_cfg={'type': 'ReLU'}, no_norm_on_lateral=True)
    assert neck.lateral_convs[0].norm_name is None and neck.lateral_convs[0].conv.bias is not None
    assert neck.fpn_convs[0].norm_name == 'bn' and neck.fpn_convs[0].conv.bias is None
    assert all((o >= 0).all() for o in neck(feats()))
    assert build('FPN', norm_cfg={'type': 'BN'}).lateral_convs[0].norm_name == 'bn'


def test_a_lateral_is_not_changed_by_what_comes_after():
    x = feats()
    before = [f.clone() for f in x]
    build('FPN', act_cfg={'type': 'ReLU'}, add_extra_convs=True, relu_before_extra_convs=True)(x)
    assert all(torch.equal(a, b) for a, b in zip(x, before))


@pytest.mark.parametrize('source', [False, 'on_input', 'on_lateral', 'on_output'])
def test_pafpn_equals_a_loop(source):
    neck = build('PAFPN', add_extra_convs=source, num_outs=5, start_level=1)
    x = feats()
    laterals, path = naive_pyramid(neck, x, 1, 4)
    for i in range(2):
        path[i + 1] = path[i + 1] + conv3(neck.downsample_convs[i], path[i], 2)
    expected = [path[0], *(conv3(neck.pafpn_convs[i], path[i + 1]) for i in range(2))]
    if source:
        first = {'on_input': x[-1], 'on_lateral': laterals[-1], 'on_output': expected[-1]}[source]
        expected.append(conv3(neck.fpn_convs[3], first, 2))
        expected.append(conv3(neck.fpn_convs[4], expected[-1], 2))
    else:
        expected += [F.max_pool2d(expected[-1], 1, stride=2), F.max_pool2d(expected[-1], 1, stride=4)]
    for o, e in zip(neck(x), expected, strict=True):
        torch.testing.assert_close(o, e)


@pytest.mark.parametrize('more, message', [
    ({'num_outs': 3}, 'num_outs is 3.*allow 4 or more'), ({'start_level': 4}, 'start_level 4'),
    ({'start_level': 1, 'end_level': 2}, 'num_outs is 5.*allow 2'), ({'end_level': 4}, 'end_level 4'),
    ({'add_extra_convs': 'on_outputs'}, "allowed are False, True, 'on_input'")])
@pytest.mark.parametrize('kind', ['FPN', 'PAFPN'])
def test_levels_that_do_not_fit_are_refused(kind, more, message):
    with pytest.raises(ConfigError, match=f'{kind}: .*{message}'):
        build(kind, **more)


def test_upsample_cfg_is_checked():
    with pytest.raises(ConfigError, match="'align_corner'; did you mean 'align_corners'"):
        build('FPN', upsample_cfg={'mode': 'bilinear', 'align_corner': False})


@pytest.mark.parametrize('kind', ['FPN', 'PAFPN', 'ChannelMapper'])
def test_another_number_of_levels_is_refused(kind):
    with pytest.raises(ConfigError, match='the backbone gives 3 levels, in_channels names 4'):
        build(kind)(feats()[:3])


@pytest.mark.parametrize('kind', ['FPN', 'PAFPN', 'ChannelMapper'])
def test_convolutions_begin_with_xaviers_uniform_values_unless_told(kind):
    neck = build(kind, out_channels=64)
    conv = neck.convs[0].conv if kind == 'ChannelMapper' else neck.fpn_convs[0].conv
    fans = sum(conv.weight[0].numel() * n for n in (1, conv.out_channels / conv.in_channels))
    bound = (6 / fans) ** 0.5
    assert 0.97 * bound < conv.weight.abs().max() <= bound and (conv.bias == 0).all()
    neck = build(kind, init_cfg={'type': 'Constant', 'val': 3, 'layer': 'Conv2d'})
    assert all((m.weight == 3).all() for m in neck.modules() if isinstance(m, torch.nn.Conv2d))


@pytest.mark.parametrize('kind', ['FPN', 'PAFPN', 'ChannelMapper'])
def test_pyramids_build_on_the_meta_device_and_give_gradients(kind):
    with torch.device('meta'):
        assert [o.shape[2:] for o in build(kind)([torch.empty(1, c, *s) for c, s in zip(CHANNELS, SIZES)])][:4] == SIZES
    neck = build(kind, add_extra_convs=True) if kind != 'ChannelMapper' else build(kind)
    sum(o.sum() for o in neck(feats())).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_channel_mapper_maps_each_level_by_itself():
    neck = build('ChannelMapper', num_outs=6, kernel_size=1, act_cfg=None, bias=True,
                 norm_cfg={'type': 'GN', 'num_groups': 4})
    x = feats()
    out = neck(x)
    gn = [m.gn for m in (*neck.convs, *neck.extra_convs)]
    expected = [gn[i](F.conv2d(x[i], m.conv.weight, m.conv.bias)) for i, m in enumerate(neck.convs)]
    expected.append(gn[4](conv3(neck.extra_convs[0], x[-1], 2)))
    expected.append(gn[5](conv3(neck.extra_convs[1], expected[-1], 2)))
    for o, e in zip(out, expected, strict=True):
        torch.testing.assert_close(o, e)


def test_channel_mapper_gives_as_many_levels_as_come_in_by_default():
    assert len(build('ChannelMapper', num_outs=None)(feats())) == 4
    with pytest.raises(ConfigError, match='allowed are as many or more'):
        build('ChannelMapper', num_outs=3)


# SSD

def ssd(**more: object) -> torch.nn.Module:
    return NECKS.build({'type': 'SSDNeck', 'in_channels': (4, 6), 'out_channels': (4, 6, 8, 4), 'level_strides': (2, 1),
                        'level_paddings': (1, 0), **more})


def test_ssd_neck_normalises_the_finest_level_and_adds_smaller_ones():
    x = [torch.randn(2, 4, 10, 9), torch.randn(2, 6, 5, 5)]
    x[0][0, :, 0, 0] = 0
    x[0].requires_grad_()
    neck = ssd(l2_norm_scale=7)
    out = neck(x)
    assert [tuple(o.shape) for o in out] == [(2, 4, 10, 9), (2, 6, 5, 5), (2, 8, 3, 3), (2, 4, 1, 1)]
    lengths = out[0].norm(dim=1)
    assert lengths[0, 0, 0] == 0
    torch.testing.assert_close(lengths.flatten()[1:], torch.full((179,), 7.0))
    out[0].sum().backward()
    assert x[0].grad.isfinite().all()
    assert out[1] is x[1]
    with torch.no_grad():
        expected = out[1]
        for layer, stride, padding in zip(neck.extra_layers, (2, 1), (1, 0)):
            narrow = F.conv2d(expected, layer[0].conv.weight, layer[0].conv.bias).relu()
            expected = F.conv2d(narrow, layer[1].conv.weight, layer[1].conv.bias, stride, padding).relu()
        torch.testing.assert_close(out[3], expected)


def test_ssd_neck_without_the_norm_and_with_a_larger_last_window():
    neck = ssd(l2_norm_scale=None, last_kernel_size=4, level_paddings=(1, 1))
    x = [torch.randn(1, 4, 10, 9), torch.randn(1, 6, 5, 5)]
    out = neck(x)
    assert out[0] is x[0] and 'l2_norm.weight' not in neck.state_dict()
    assert neck.extra_layers[0][1].conv.kernel_size == (3, 3) and neck.extra_layers[1][1].conv.kernel_size == (4, 4)
    assert out[3].shape[2:] == (2, 2)


@pytest.mark.parametrize('more', [{'in_channels': (4, 5)}, {'level_strides': (2,)}, {'level_paddings': (1, 0, 0)}])
def test_ssd_necks_lists_must_fit(more):
    with pytest.raises(ConfigError, match='SSDNeck'):
        ssd(**more)


@pytest.mark.parametrize('shape', [(8, 12), (7, 11)])
def test_levels_are_added_the_same_way_with_and_without_gradients(shape):
    maps = [torch.randn(2, 4, *shape), torch.randn(2, 4, 4, 6), torch.randn(2, 4, 2, 3)]
    with_gradients = top_down([f.clone().requires_grad_() for f in maps])
    without = top_down([f.clone() for f in maps])
    for a, b in zip(with_gradients, without, strict=True):
        assert torch.equal(a, b)
