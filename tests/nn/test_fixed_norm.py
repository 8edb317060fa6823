"""Training with fixed batch norms: one convolution gives what convolution and norm give, with the same gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from omnidet.nn import ConvModule
from omnidet.nn.fixed_norm import conv_norm, in_sequence


def pair(groups=1, bias=False):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=bias).double()
    norm = nn.BatchNorm2d(8).double()
    with torch.no_grad():
        for p in (norm.weight, norm.bias, norm.running_mean):
            p.normal_()
        norm.running_var.uniform_(0.1, 3)
    return conv, norm.eval()


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('bias', [False, True])
def test_values_and_gradients_are_those_of_convolution_then_norm(groups, bias):
    conv, norm = pair(groups, bias)
    conv2, norm2 = copy.deepcopy(conv), copy.deepcopy(norm)
    x = torch.randn(2, 4, 16, 17, dtype=torch.double, requires_grad=True)
    x2 = x.detach().clone().requires_grad_()
    got, want = conv_norm(conv, norm, x), norm2(conv2(x2))
    weight = torch.randn_like(want)
    (got * weight).sum().backward()
    (want * weight).sum().backward()
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(x.grad, x2.grad)
    for mine, theirs in zip([*conv.parameters(), *norm.parameters()], [*conv2.parameters(), *norm2.parameters()],
                            strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def saved_bytes(f):
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        f()
    return sum(sizes)


def test_the_map_between_is_not_kept():
    conv, norm = pair()
    x = torch.randn(2, 4, 64, 64, dtype=torch.double)
    assert saved_bytes(lambda: norm(conv(x))) - saved_bytes(lambda: conv_norm(conv, norm, x)) > 2 * 8 * 32 * 32 * 0.9


def test_a_training_norm_still_learns_its_statistics():
    conv, norm = pair()
    before = norm.running_mean.clone()
    conv_norm(conv, norm.train(), torch.randn(2, 4, 16, 16, dtype=torch.double))
    assert not torch.equal(norm.running_mean, before)


@pytest.mark.parametrize('watched', [0, 1])
def test_hooks_on_either_module_are_called(watched):
    conv, norm = pair()
    seen = []
    (conv, norm)[watched].register_forward_hook(lambda *_: seen.append(1))
    conv_norm(conv, norm, torch.randn(2, 4, 16, 16, dtype=torch.double))
    assert seen == [1]


def test_a_sequence_gives_what_its_layers_give():
    conv, norm = pair()
    layers = nn.Sequential(nn.AvgPool2d(2), conv, norm, nn.ReLU())
    x = torch.randn(2, 4, 32, 32, dtype=torch.double)
    torch.testing.assert_close(in_sequence(layers, x), layers(x))


@pytest.mark.parametrize('order', [('conv', 'norm', 'act'), ('norm', 'conv', 'act'), ('act', 'conv', 'norm'),
                                   ('conv', 'act', 'norm')])
def test_conv_module_keeps_its_order(order):
    torch.manual_seed(0)
    module = ConvModule(4, 4, 3, padding=1, norm_cfg={'type': 'BN'}, order=order, inplace=False).double().eval()
    with torch.no_grad():
        module.bn.running_mean.normal_()
        module.bn.weight.normal_()
    x = want = torch.randn(2, 4, 16, 16, dtype=torch.double)
    for step in order:
        want = {'conv': module.conv, 'norm': module.bn, 'act': module.activate}[step](want)
    torch.testing.assert_close(module(x), want)
