"""The bricks: order of layers, names of parameters, kinds of norms and activations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, DepthwiseSeparableConvModule, build_activation, build_norm
from omnidet.nn.csp import ChannelAttention, CSPLayer, CSPNeXtBlock, SPPBottleneck


def test_convolution_norm_and_activation_follow_each_other():
    m = ConvModule(2, 4, 3, padding=1, norm_cfg={'type': 'BN', 'eps': 1e-3}, act_cfg={'type': 'ReLU'}).eval()
    m.bn.running_mean.uniform_(-1, 1)
    m.bn.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 2, 5, 5)
    want = F.conv2d(x, m.conv.weight, padding=1)
    want = (want - m.bn.running_mean[:, None, None]) / (m.bn.running_var[:, None, None] + 1e-3).sqrt()
    assert torch.allclose(m(x), want.clamp(min=0), atol=1e-5)
    assert set(m.state_dict()) == {'conv.weight', 'bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var',
                                   'bn.num_batches_tracked'}


def test_a_norm_before_the_convolution_normalises_its_input():
    m = ConvModule(2, 4, 1, norm_cfg={'type': 'BN'}, act_cfg=None, order=('norm', 'conv', 'act'))
    assert m.bn.num_features == 2 and m(torch.randn(2, 2, 3, 3)).shape == (2, 4, 3, 3)
    with pytest.raises(ConfigError, match='order'):
        ConvModule(2, 4, 1, order=('conv', 'norm', 'norm'))


def test_there_is_a_bias_where_there_is_no_norm():
    assert ConvModule(2, 4, 1).conv.bias is not None
    assert ConvModule(2, 4, 1, norm_cfg={'type': 'BN'}).conv.bias is None
    assert ConvModule(2, 4, 1, bias=True, norm_cfg={'type': 'BN'}).conv.bias is not None


@pytest.mark.parametrize(('cfg', 'name', 'cls'), [
    ({'type': 'BN'}, 'bn', nn.BatchNorm2d), ({'type': 'SyncBN'}, 'bn', nn.BatchNorm2d),
    ({'type': 'GN', 'num_groups': 2}, 'gn', nn.GroupNorm), ({'type': 'LN'}, 'ln', nn.LayerNorm),
    ({'type': 'IN'}, 'in', nn.InstanceNorm2d), ({'type': 'SyncBatchNorm'}, 'bn', nn.BatchNorm2d)])
def test_norms_have_the_names_of_checkpoints(cfg, name, cls):
    got, norm = build_norm(cfg, 4)
    assert got == name and isinstance(norm, cls)


def test_a_norm_may_be_frozen():
    _, norm = build_norm({'type': 'BN', 'requires_grad': False}, 4)
    assert not any(p.requires_grad for p in norm.parameters())


@pytest.mark.parametrize('kind', ['ReLU', 'SiLU', 'Swish', 'GELU', 'HSigmoid', 'LeakyReLU', 'Mish', 'Hardswish'])
def test_activations_by_name(kind):
    act = build_activation({'type': kind, 'inplace': True})
    x = torch.linspace(-4, 4, 9)
    want = {'ReLU': F.relu, 'SiLU': F.silu, 'Swish': F.silu, 'GELU': F.gelu, 'LeakyReLU': F.leaky_relu, 'Mish': F.mish,
            'HSigmoid': F.hardsigmoid, 'Hardswish': F.hardswish}[kind](x)
    assert torch.allclose(act(x.clone()), want, atol=1e-6)


def test_silu_overwrites_its_input_only_where_no_gradient_needs_it():
    act, x = build_activation({'type': 'SiLU'}), torch.randn(5)
    assert act(x) is x
    y = torch.randn(5, requires_grad=True) * 1
    before = y.detach().clone()
    act(y).sum().backward()
    assert torch.equal(y.detach(), before)


def test_an_unknown_kind_is_told():
    with pytest.raises(ConfigError, match="norm layer 'BM'"):
        build_norm({'type': 'BM'}, 4)
    with pytest.raises(ConfigError, match="num_group'; did you mean 'num_groups'"):
        build_norm({'type': 'GN', 'num_group': 2}, 4)


def test_a_depthwise_separable_convolution_mixes_channels_only_in_its_second_half():
    m = DepthwiseSeparableConvModule(4, 6, 3, padding=1, act_cfg=None)
    assert m.depthwise_conv.conv.weight.shape == (4, 1, 3, 3) and m.pointwise_conv.conv.weight.shape == (6, 4, 1, 1)


def test_channel_attention_is_a_gate_of_the_channels_means():
    m, x = ChannelAttention(3), torch.randn(2, 3, 4, 4)
    gate = F.hardsigmoid(x.mean((2, 3)) @ m.fc.weight[:, :, 0, 0].T + m.fc.bias)
    assert torch.allclose(m(x), x * gate[..., None, None], atol=1e-6)


@pytest.mark.parametrize('options', [{}, {'add_identity': False}, {'use_depthwise': True, 'channel_attention': True}])
def test_csp_layers_keep_the_size(options):
    m = CSPLayer(CSPNeXtBlock, 8, 12, num_blocks=2, norm_cfg={'type': 'BN'}, act_cfg={'type': 'SiLU'}, **options)
    assert m(torch.randn(2, 8, 5, 7)).shape == (2, 12, 5, 7)


def test_pooling_pyramids_see_the_largest_of_each_window():
    m = SPPBottleneck(2, 4, (3,), act_cfg=None).eval()
    nn.init.dirac_(m.conv1.conv.weight)
    nn.init.zeros_(m.conv1.conv.bias)
    seen = {}
    m.conv2.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    x = torch.zeros(1, 2, 5, 5)
    x[0, 0, 2, 2] = 1
    m(x)
    assert seen['x'][0, 0].sum() == 1 and seen['x'][0, 1].sum() == 9 and seen['x'][0, 1, 1:4, 1:4].all()
