"""Parameter groups by hand, and the optimizer's step: accumulation, clipping, mixed precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from omnidet.engine import build_optimizer
from omnidet.engine.optim import Updater, build_wrapper
from omnidet.errors import ConfigError

CPU = torch.device('cpu')


class DeformConv2dPack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))
        self.bias = nn.Parameter(torch.zeros(2))
        self.conv_offset = nn.Conv2d(2, 2, 1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4, bias=False))
        self.neck = DeformConv2dPack()
        self.head = nn.Linear(4, 2)
        self.shared = self.head


def groups(wrapper: dict[str, Any], model: nn.Module | None = None) -> dict[str, tuple[float, float]]:
    """{name: (rate, decay)}"""
    model = model or Net()
    optimizer = build_optimizer({'optim_wrapper': wrapper}, model)
    names = {id(p): n for n, p in model.named_parameters()}
    out: dict[str, tuple[float, float]] = {}
    for g in optimizer.param_groups:
        for p in g['params']:
            assert names[id(p)] not in out
            out[names[id(p)]] = (round(g['lr'], 9), round(g['weight_decay'], 9))
    assert len(out) == len(names)
    return out


SGD = dict(type='SGD', lr=0.1, weight_decay=0.01, momentum=0.9)


def test_without_paramwise_everything_has_the_same_settings():
    assert set(groups(dict(optimizer=SGD)).values()) == {(0.1, 0.01)}


def test_multipliers_by_kind_of_parameter():
    got = groups(dict(optimizer=SGD, paramwise_cfg=dict(
        bias_lr_mult=2, bias_decay_mult=0.5, norm_decay_mult=0, dwconv_decay_mult=0.25, dcn_offset_lr_mult=0.1)))
    assert got == {
        'backbone.0.weight': (0.1, 0.01), 'backbone.0.bias': (0.2, 0.005),
        'backbone.1.weight': (0.1, 0.0), 'backbone.1.bias': (0.1, 0.0),
        'backbone.2.weight': (0.1, 0.0025),
        'neck.weight': (0.1, 0.01), 'neck.bias': (0.2, 0.005),
        'neck.conv_offset.weight': (0.01, 0.01), 'neck.conv_offset.bias': (0.01, 0.01),
        'head.weight': (0.1, 0.01), 'head.bias': (0.2, 0.005)}


def test_biases_of_norms_are_biases_where_nothing_is_said_of_norms():
    got = groups(dict(optimizer=SGD, paramwise_cfg=dict(bias_lr_mult=2, bias_decay_mult=0)))
    assert got['backbone.1.weight'] == (0.1, 0.01) and got['backbone.1.bias'] == (0.1, 0.0)


def test_the_longest_custom_key_alone_decides():
    got = groups(dict(optimizer=SGD, paramwise_cfg=dict(norm_decay_mult=0, custom_keys={
        'backbone': dict(lr_mult=0.1), 'backbone.1': dict(decay_mult=3), 'head': dict(lr_mult=0.5, decay_mult=0)})))
    assert got['backbone.0.weight'] == (0.01, 0.01)
    assert got['backbone.1.weight'] == (0.1, 0.03)
    assert got['head.bias'] == (0.05, 0.0)
    assert got['neck.bias'] == (0.1, 0.01)


def test_flat_parameters_and_the_meta_device():
    with torch.device('meta'):
        model = Net()
    got = groups(dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
                      paramwise_cfg=dict(flat_decay_mult=0, norm_decay_mult=1)), model)
    assert got['head.bias'] == (1e-3, 0.0)
    assert got['backbone.1.bias'] == (1e-3, 0.05)


def test_equal_settings_share_a_group():
    optimizer = build_optimizer({'optim_wrapper': dict(optimizer=SGD, paramwise_cfg=dict(norm_decay_mult=0))}, Net())
    assert len(optimizer.param_groups) == 2


def test_layer_decay_falls_towards_the_input():
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.downsample_layers = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(4))
    model.backbone.stages = nn.ModuleList(nn.ModuleList(nn.Linear(1, 1) for _ in range(n)) for n in (1, 1, 6, 1))
    model.head = nn.Linear(1, 1)
    got = groups(dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
                      constructor='LearningRateDecayOptimizerConstructor',
                      paramwise_cfg=dict(decay_rate=0.5, decay_type='layer_wise', num_layers=6)), model)
    for name, layer in (('head', 7), ('backbone.stages.3.0', 6), ('backbone.downsample_layers.3', 6),
                        ('backbone.stages.2.5', 4), ('backbone.stages.2.0', 3), ('backbone.downsample_layers.2', 3),
                        ('backbone.stages.1.0', 2), ('backbone.stages.0.0', 1), ('backbone.downsample_layers.0', 0)):
        assert got[f'{name}.weight'] == (0.5 ** (7 - layer), 0.1), name
        assert got[f'{name}.bias'] == (0.5 ** (7 - layer), 0.0), name


@pytest.mark.parametrize(('wrapper', 'word'), [
    (dict(optimizer=dict(type='AdmaW', lr=1)), 'AdamW'), (dict(optimizer=dict(type='SGD', lrr=1)), "'lr'"),
    (dict(optimizer=SGD, paramwise_cfg=dict(norm_decay=0)), 'norm_decay'),
    (dict(optimizer=SGD, clip_gard=None), 'clip_grad'),
    (dict(optimizer=SGD, paramwise_cfg={'a': 1}, constructor='Nothing'), 'constructor')])
def test_a_wrong_setting_is_named(wrapper: dict[str, Any], word: str):
    with pytest.raises(ConfigError, match=word):
        build_optimizer({'optim_wrapper': wrapper}, Net())


def trained(batches: list[torch.Tensor], **wrapper: Any) -> torch.Tensor:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    cfg = {'optim_wrapper': dict(optimizer=dict(type='SGD', lr=0.1), **wrapper)}
    updater = Updater(build_wrapper(cfg), build_optimizer(cfg, model), CPU)
    for t, x in enumerate(batches):
        with updater.autocast():
            loss = model(x).square().mean()
        updater.backward(loss, t, len(batches))
        if updater.steps_at(t, len(batches)):
            updater.step()
    return model.weight.detach()


def test_accumulation_equals_a_big_batch():
    x = torch.randn(12, 3)
    small = trained(list(x.split(2)), accumulative_counts=3)
    assert torch.allclose(small, trained(list(x.split(6))), atol=1e-6)


def test_a_last_short_accumulation_is_a_mean_too():
    x = torch.randn(10, 3)
    assert torch.allclose(trained(list(x.split(2)), accumulative_counts=3), trained([x[:6], x[6:]]), atol=1e-6)


def test_gradients_are_clipped_by_norm_or_by_value():
    model = nn.Linear(2, 1, bias=False)
    for clip, want in ((dict(max_norm=0.5, norm_type=2), [0.3, 0.4]), (dict(type='value', clip_value=2.0), [2.0, 2.0])):
        nn.init.zeros_(model.weight)
        cfg = {'optim_wrapper': dict(optimizer=dict(type='SGD', lr=1.0), clip_grad=clip)}
        updater = Updater(build_wrapper(cfg), build_optimizer(cfg, model), CPU)
        updater.backward(model(torch.tensor([[3.0, 4.0]])).sum(), 0, 1)
        norm = updater.step()
        assert model.weight.detach()[0].tolist() == pytest.approx([-w for w in want], abs=1e-5)
        assert norm is None or float(norm) == pytest.approx(5.0)


def test_mixed_precision_computes_in_half_and_keeps_weights_in_full():
    cfg = {'optim_wrapper': dict(type='AmpOptimWrapper', optimizer=SGD, dtype='bfloat16')}
    model = nn.Linear(2, 2)
    updater = Updater(build_wrapper(cfg), build_optimizer(cfg, model), CPU)
    with updater.autocast():
        y = model(torch.ones(1, 2))
    assert y.dtype is torch.bfloat16
    updater.backward(y.float().sum(), 0, 1)
    before = model.weight.detach().clone()
    updater.step()
    assert model.weight.dtype is torch.float32 and not torch.equal(before, model.weight)
