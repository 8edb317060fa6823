"""Schedules against closed forms, worked by hand from their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest

from omnidet.engine import lr_curve
from omnidet.engine.loops import EpochBasedTrainLoop
from omnidet.engine.schedule import build_schedules
from omnidet.errors import ConfigError

L = 5


def curve(*schedulers: dict[str, Any], epochs: int = 4, **cfg: Any) -> list[float]:
    return lr_curve({'train_cfg': dict(max_epochs=epochs), 'param_scheduler': list(schedulers), **cfg}, L)


def test_without_schedulers_the_rate_stays():
    assert curve() == [1.0] * 20
    assert lr_curve({'train_cfg': dict(type='IterBasedTrainLoop', max_iters=7)}, L) == [1.0] * 7


def test_linear_rises_in_equal_steps_and_then_rests():
    got = curve(dict(type='LinearLR', start_factor=0.2, by_epoch=False, begin=0, end=5))
    assert got[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert got[5:] == pytest.approx([1.0] * 15)


def test_linear_that_begins_later_starts_from_the_value_it_finds():
    got = curve(dict(type='LinearLR', start_factor=0.5, end_factor=2.0, by_epoch=False, begin=3, end=7))
    assert got[:7] == pytest.approx([1, 1, 1, 0.5, 1.0, 1.5, 2.0])


def test_multi_step_by_epoch_multiplies_with_warmup():
    got = curve(dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=10),
                dict(type='MultiStepLR', by_epoch=True, milestones=[1, 3], gamma=0.1))
    for t in range(20):
        warm = 0.5 + 0.5 * min(t, 9) / 9
        assert got[t] == pytest.approx(warm * 0.1 ** sum(t >= m * L for m in (1, 3)))


def test_a_milestone_given_twice_counts_twice_and_milestones_count_from_begin():
    got = curve(dict(type='MultiStepLR', by_epoch=True, begin=1, end=4, milestones=[1, 1], gamma=0.5))
    assert got == pytest.approx([1.0] * 10 + [0.25] * 10)


def test_cosine_converted_to_iterations_ends_at_its_floor():
    eta, T = 0.1, 2 * L
    got = curve(dict(type='CosineAnnealingLR', eta_min=eta, by_epoch=True, begin=2, end=4, T_max=2,
                     convert_to_iter_based=True))
    assert got[:10] == pytest.approx([1.0] * 10)
    for k in range(10):
        assert got[10 + k] == pytest.approx(eta + (1 - eta) * (1 + math.cos(math.pi * k / T)) / 2)


def test_cosine_rises_again_after_its_lowest_point():
    got = curve(dict(type='CosineAnnealingLR', T_max=4, by_epoch=False, eta_min_ratio=0.2))
    assert got == pytest.approx([0.2 + 0.8 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(20)])


def test_eta_min_is_a_rate_and_eta_min_ratio_a_factor_for_each_group():
    cfg = {'train_cfg': dict(max_epochs=4), 'param_scheduler': [
        dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, T_max=19)]}
    schedule = build_schedules(cfg, L)['lr']
    for base in (1.0, 0.01, 0.001):
        assert schedule.at(base, 0) == pytest.approx(base)
        assert schedule.at(base, 19) == pytest.approx(1e-4)
    cfg['param_scheduler'][0] = dict(type='CosineAnnealingLR', eta_min_ratio=0.1, by_epoch=False, T_max=19)
    assert build_schedules(cfg, L)['lr'].at(0.01, 19) == pytest.approx(0.001)


def test_constant_holds_a_factor_until_its_last_step():
    got = curve(dict(type='ConstantLR', factor=0.25, by_epoch=False, begin=0, end=6))
    assert got == pytest.approx([0.25] * 5 + [1.0] * 15)


def test_poly_exponential_and_step_follow_their_definitions():
    got = curve(dict(type='PolyLR', power=2, eta_min=0.1, by_epoch=False, begin=0, end=20))
    assert got == pytest.approx([0.1 + 0.9 * (1 - k / 19) ** 2 for k in range(20)])
    assert curve(dict(type='ExponentialLR', gamma=0.9, by_epoch=True)) == pytest.approx(
        [0.9 ** (t // L) for t in range(20)])
    assert curve(dict(type='StepLR', step_size=2, by_epoch=True, convert_to_iter_based=True)) == pytest.approx(
        [0.1 ** (t // (2 * L)) for t in range(20)])


def test_quadratic_warmup_reaches_the_base():
    got = curve(dict(type='mmdet.QuadraticWarmupLR', by_epoch=True, begin=0, end=2, convert_to_iter_based=True))
    assert got[:10] == pytest.approx([((k + 1) / 10) ** 2 for k in range(10)])
    assert got[10:] == pytest.approx([1.0] * 10)


def test_cosine_restart_begins_each_period_at_its_weight():
    got = curve(dict(type='CosineRestartLR', periods=[5, 15], restart_weights=[1, 0.5], eta_min=0.0, by_epoch=False))
    for k in range(20):
        weight, done = (1, k / 5) if k < 5 else (0.5, (k - 5) / 15)
        assert got[k] == pytest.approx(weight * (1 + math.cos(math.pi * done)) / 2)


def test_one_cycle_agrees_with_torch():
    import torch
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.7, total_steps=20, pct_start=0.25)
    want = []
    for _ in range(20):
        want.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        reference.step()
    got = curve(dict(type='OneCycleLR', eta_max=0.7, total_steps=20, pct_start=0.25, by_epoch=False))
    assert got == pytest.approx(want)


def test_other_settings_than_the_rate_have_schedules_of_their_own():
    cfg = {'train_cfg': dict(max_epochs=4), 'param_scheduler': [
        dict(type='LinearMomentum', start_factor=0.5, by_epoch=False, begin=0, end=5),
        dict(type='StepParamScheduler', param_name='weight_decay', step_size=10, by_epoch=False)]}
    schedules = build_schedules(cfg, L)
    assert schedules['lr'].at(0.1, 0) == pytest.approx(0.1)
    assert schedules['momentum'].at(0.9, 0) == pytest.approx(0.45)
    assert schedules['weight_decay'].at(1.0, 10) == pytest.approx(0.1)


def test_epochs_never_end_in_a_run_by_iterations():
    got = lr_curve({'train_cfg': dict(type='IterBasedTrainLoop', max_iters=20),
                    'param_scheduler': dict(type='MultiStepLR', by_epoch=False, milestones=[8])}, L)
    assert got == pytest.approx([1.0] * 8 + [0.1] * 12)


@pytest.mark.parametrize(('scheduler', 'word'), [
    (dict(type='LinearLR', start_factor=0.0), 'start_factor'),
    (dict(type='MultiStepLR', milestones=[1], begin=3, end=3), 'begin'),
    (dict(type='CosineAnealingLR'), 'CosineAnnealingLR'),
    (dict(type='MultiStepLR', milestone=[1]), 'milestones'),
    (dict(type='ConstantLR', by_epoch=False, convert_to_iter_based=True), 'convert_to_iter_based')])
def test_a_wrong_scheduler_is_named(scheduler: dict[str, Any], word: str):
    with pytest.raises(ConfigError, match=word):
        curve(scheduler)


def test_validation_is_due_at_intervals_and_at_the_end():
    def due(**kwargs: Any) -> list[int]:
        loop = EpochBasedTrainLoop(max_epochs=12, **kwargs)
        return [e for e in range(1, 13) if loop.validates(e)]
    assert due() == list(range(1, 13))
    assert due(val_interval=5) == [5, 10, 12]
    assert due(val_interval=5, dynamic_intervals=[(9, 1)]) == [5, 9, 10, 11, 12]
    assert due(val_begin=7, val_interval=3) == [9, 12]
    assert due(val_begin=13) == []


def test_missing_train_cfg_is_explained():
    with pytest.raises(ConfigError, match='train_cfg is missing'):
        lr_curve({}, L)
