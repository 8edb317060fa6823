"""Initial values: each initialiser against its published distribution, and which modules an entry reaches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, initialize

FAN_IN, FAN_OUT = 32 * 9, 64 * 9    # of the convolution below


def drawn(**entry: object) -> Tensor:
    """The weight of a 3 x 3 convolution from 32 to 64 channels (18,432 numbers), and its bias checked to be 0."""
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 64, 3)
    initialize(conv, {'layer': 'Conv2d', **entry})
    assert (conv.bias == 0).all()
    return conv.weight.detach()


@pytest.mark.parametrize('entry, std', [
    ({'type': 'Kaiming'}, math.sqrt(2 / FAN_OUT)),
    ({'type': 'Kaiming', 'mode': 'fan_in'}, math.sqrt(2 / FAN_IN)),
    ({'type': 'Kaiming', 'a': 1, 'nonlinearity': 'leaky_relu'}, math.sqrt(1 / FAN_OUT)),
    ({'type': 'Kaiming', 'a': 3, 'nonlinearity': 'leaky_relu'}, math.sqrt(2 / 10 / FAN_OUT)),
    ({'type': 'Xavier'}, math.sqrt(2 / (FAN_IN + FAN_OUT))),
    ({'type': 'Xavier', 'gain': 3}, 3 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
    ({'type': 'Normal', 'std': 0.01}, 0.01), ({'type': 'Normal', 'std': 2, 'mean': 5}, 2)])
def test_normal_draws_have_the_published_deviation(entry, std):
    weight = drawn(**entry)
    assert weight.std() == pytest.approx(std, rel=0.02)
    assert weight.mean() == pytest.approx(entry.get('mean', 0), abs=4 * std / math.sqrt(weight.numel()))
    beyond = ((weight - weight.mean()).abs() > 2 * std).float().mean()
    assert beyond == pytest.approx(0.0455, abs=0.006)    # of a normal distribution


@pytest.mark.parametrize('entry, low, high', [
    ({'type': 'Uniform'}, 0, 1), ({'type': 'Uniform', 'a': -3, 'b': 2}, -3, 2),
    ({'type': 'Kaiming', 'distribution': 'uniform'}, *(s * math.sqrt(6 / FAN_OUT) for s in (-1, 1))),
    ({'type': 'Xavier', 'distribution': 'uniform'}, *(s * math.sqrt(6 / (FAN_IN + FAN_OUT)) for s in (-1, 1))),
    ({'type': 'Caffe2Xavier'}, *(s * math.sqrt(3 / FAN_IN) for s in (-1, 1)))])
def test_uniform_draws_fill_the_published_interval(entry, low, high):
    weight = drawn(**entry)
    assert low <= weight.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < weight.max() <= high
    assert weight.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.02)


def test_a_truncated_normal_stays_within_its_bounds():
    weight = drawn(type='TruncNormal', std=2, mean=1, a=-1, b=4)
    assert -1 <= weight.min() < -0.95 and 3.95 < weight.max() <= 4
    alpha, beta = -1.0, 1.5    # the bounds in deviations; the mean of what is left is mean + std (phi(a) - phi(b)) / Z
    phi = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (alpha, beta)]
    z = (math.erf(beta / math.sqrt(2)) - math.erf(alpha / math.sqrt(2))) / 2
    assert weight.mean() == pytest.approx(1 + 2 * (phi[0] - phi[1]) / z, abs=0.04)


def test_constants_and_biases_are_as_given():
    conv = nn.Conv2d(1, 1, 1)
    initialize(conv, {'type': 'Constant', 'val': 3, 'bias': 4, 'layer': 'Conv2d'})
    assert conv.weight.item() == 3 and conv.bias.item() == 4
    initialize(conv, {'type': 'Normal', 'layer': 'Conv2d', 'bias_prob': 0.01})
    assert conv.bias.sigmoid().item() == pytest.approx(0.01)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([ConvModule(2, 2, 3, norm_cfg={'type': 'BN'}), nn.Conv2d(2, 2, 1, bias=False)])
        self.fc, self.norm = nn.Linear(2, 2), nn.GroupNorm(1, 2)
        for p in self.parameters():
            nn.init.constant_(p, -1)

    def values(self) -> dict[str, float]:
        """The first number of every parameter that is not -1 any more."""
        return {k: v.flatten()[0].item() for k, v in self.named_parameters() if (v != -1).all()}


def ones(**entry: object) -> dict[str, object]:
    return {'type': 'Constant', 'val': 1, 'bias': 2, **entry}


CONVS = {'convs.0.conv.weight': 1, 'convs.1.weight': 1}


@pytest.mark.parametrize('layer, reached', [
    ('Conv2d', CONVS), (['Conv2d', 'Linear'], {**CONVS, 'fc.weight': 1, 'fc.bias': 2}),
    ('_BatchNorm', {'convs.0.bn.weight': 1, 'convs.0.bn.bias': 2}), (nn.Linear, {'fc.weight': 1, 'fc.bias': 2}),
    ('torch.nn.GroupNorm', {'norm.weight': 1, 'norm.bias': 2}), ('Conv3d', {}), (None, {})])
def test_layers_are_named_by_their_class_or_one_it_inherits_from(layer, reached):
    head = Head()
    initialize(head, ones(layer=layer))
    assert head.values() == reached


@pytest.mark.parametrize('override, fc', [
    ({'name': 'fc', 'type': 'Constant', 'val': 3, 'bias': 4}, (3, 4)),
    ({'name': 'fc', 'type': 'Constant', 'val': 3}, (3, 0)),
    ({'name': 'fc'}, (1, 2)), ({'name': 'fc', 'val': 5}, (5, 2)),
    ([{'name': 'norm', 'val': 8}, {'name': 'fc', 'val': 6, 'bias': 7}], (6, 7))])
def test_an_override_treats_one_child_in_another_way(override, fc):
    head = Head()
    initialize(head, ones(layer='Conv2d', override=override))
    expected = {**CONVS, 'fc.weight': fc[0], 'fc.bias': fc[1]}
    if isinstance(override, list):
        expected |= {'norm.weight': 8, 'norm.bias': 2}
    assert head.values() == expected


def test_an_override_of_a_whole_child_reaches_what_is_within():
    head = Head()
    initialize(head, ones(override={'name': 'convs', 'val': 9}))
    assert head.values() == {'convs.0.conv.weight': 9, 'convs.0.bn.weight': 9, 'convs.0.bn.bias': 2,
                             'convs.1.weight': 9}


def test_entries_apply_one_after_another():
    head = Head()
    initialize(head, [ones(layer=['Conv2d', 'Linear']), ones(layer='Linear', val=3)])
    assert head.values() == {**CONVS, 'fc.weight': 3, 'fc.bias': 2}


@pytest.mark.parametrize('init_cfg, fc', [
    (None, 7), ({'type': 'Pretrained', 'checkpoint': 'a.pth'}, 7), ([{'type': 'PretrainedInit', 'checkpoint': 'a'}], 7),
    ({'checkpoint': 'a.pth'}, 7), ([], 7), (ones(layer='Linear'), 1),
    ([{'type': 'Pretrained', 'checkpoint': 'a'}, ones(layer='Linear')], 1)])
def test_the_default_holds_where_nothing_but_pretrained_weights_are_named(init_cfg, fc):
    head = Head()
    initialize(head, init_cfg, default=ones(layer='Linear', val=7))
    assert head.values()['fc.weight'] == fc


@pytest.mark.parametrize('kind', ['Kaiming', 'Xavier', 'Normal', 'TruncNormal', 'Uniform', 'Caffe2Xavier'])
def test_class_names_of_the_pure_python_form_are_the_same(kind):
    assert torch.equal(drawn(type=kind), drawn(type=f'{kind}Init'))
    assert torch.equal(drawn(type=kind), drawn(type=f'mmengine.model.{kind}Init'))


def test_configs_are_not_changed():
    cfg = ones(layer=['Conv2d'], override=[{'name': 'fc', 'val': 3}])
    initialize(Head(), cfg)
    assert cfg == ones(layer=['Conv2d'], override=[{'name': 'fc', 'val': 3}])


@pytest.mark.parametrize('kind', ['Kaiming', 'TruncNormal', 'Constant'])
def test_the_meta_device_is_left_as_it_is(kind):
    with torch.device('meta'):
        conv = nn.Conv2d(2, 2, 1)
        initialize(conv, {'type': kind, 'layer': 'Conv2d', **({'val': 1} if kind == 'Constant' else {})})
    assert conv.weight.is_meta


def test_parameters_still_ask_for_gradients():
    conv = nn.Conv2d(2, 2, 1)
    initialize(conv, {'type': 'Kaiming', 'layer': 'Conv2d'})
    assert conv.weight.requires_grad and conv.weight.grad_fn is None


@pytest.mark.parametrize('cfg, message', [
    ({'type': 'Kaimin'}, r"Head\.init_cfg: there is no initialiser 'Kaimin'; did you mean 'Kaiming'"),
    ({'layer': 'Conv2d', 'std': 1}, 'no initialiser None'),
    ({'type': 'Normal', 'layer': 'Conv2d', 'sdt': 1}, "Normal has no argument 'sdt'; did you mean 'std'"),
    ({'type': 'Constant', 'layer': 'Conv2d'}, "Constant needs the argument 'val'"),
    ({'type': 'Normal', 'override': {'name': 'fcc', 'std': 1}}, "'fcc', which is no part of Head; did you mean 'fc'"),
    ({'type': 'Normal', 'override': {'std': 1}}, 'an override is a dict with the name'),
    ({'type': 'Normal', 'layer': 3}, 'layer is the name of a class'),
    ({'type': 'Xavier', 'layer': 'GroupNorm'}, r'Xavier .* a weight of shape \(2,\)'),
    ({'type': 'Xavier', 'layer': 'Linear', 'distribution': 'norm'}, "'norm'; allowed are normal, uniform"),
    ('Kaiming', 'an entry is a dict with a type')])
def test_what_is_wrong_is_told(cfg, message):
    with pytest.raises(ConfigError, match=message):
        initialize(Head(), cfg)
