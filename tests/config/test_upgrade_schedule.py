"""Learning rates of 2.x: the curve of the upgraded config against the documented formula, iteration by iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from omnidet.engine import lr_curve
from omnidet.engine.schedule import build_schedules
from omnidet.errors import ConfigError

L = 20    # iterations in an epoch
EPOCHS = 12


def loaded(load, settings, runner=f"type='EpochBasedRunner', max_epochs={EPOCHS}", lr=1.0, more=''):
    return load(f"""
optimizer = dict(type='SGD', lr={lr}, momentum=0.9)
lr_config = {settings}
runner = dict({runner})
{more}""")


def warmed(regular, warmup=None, iters=0, ratio=0.1):
    """What 2.x does in the first `iters` iterations: it turns down the rate that its policy gives."""
    def rate(i):
        if warmup is None or i >= iters:
            return regular(i)
        k = {'constant': 1 - ratio, 'linear': (1 - i / iters) * (1 - ratio),
             'exp': 1 - ratio ** (1 - i / iters)}[warmup]
        return regular(i) * (1 - k)
    return rate


def cosine(start, end, share):
    return end + 0.5 * (start - end) * (math.cos(math.pi * share) + 1)


TOTAL = EPOCHS * L
EXACT = {
    'step': (dict(policy='step', step=[8, 11]), lambda i: 0.1 ** sum(i // L >= s for s in (8, 11))),
    'step with a gamma': (dict(policy='step', step=[3], gamma=0.5), lambda i: 0.5 if i // L >= 3 else 1.0),
    'step every few epochs': (dict(policy='step', step=5), lambda i: 0.1 ** (i // L // 5)),
    'step by iteration': (dict(policy='step', step=[30, 50], by_epoch=False),
                          lambda i: 0.1 ** sum(i >= s for s in (30, 50))),
    'fixed': (dict(policy='fixed'), lambda i: 1.0),
    'exp': (dict(policy='exp', gamma=0.9), lambda i: 0.9 ** (i // L)),
    'poly': (dict(policy='poly', power=0.9, min_lr=1e-4), lambda i: (1 - 1e-4) * (1 - i // L / EPOCHS) ** 0.9 + 1e-4),
    'cosine': (dict(policy='CosineAnnealing', min_lr=0.01), lambda i: cosine(1, 0.01, i // L / EPOCHS)),
    'cosine to a share': (dict(policy='CosineAnnealing', min_lr_ratio=0.05),
                          lambda i: cosine(1, 0.05, i // L / EPOCHS)),
    'cosine by iteration': (dict(policy='CosineAnnealing', min_lr=0, by_epoch=False),
                            lambda i: cosine(1, 0, i / TOTAL)),
    'flat, then cosine': (dict(policy='FlatCosineAnnealing', start_percent=0.75, min_lr=0),
                          lambda i: 1.0 if i // L < 9 else cosine(1, 0, (i // L - 9) / 3)),
    'linear annealing': (dict(policy='LinearAnnealing', min_lr_ratio=0.1), lambda i: 1 - 0.9 * (i // L) / EPOCHS),
    'restarts': (dict(policy='CosineRestart', periods=[4, 8], restart_weights=[1, 0.5], min_lr=0.0),
                 lambda i: cosine(1, 0, i // L / 4) if i // L < 4 else 0.5 * cosine(1, 0, (i // L - 4) / 8)),
    'exponential warm-up': (dict(policy='step', step=[8], warmup='exp', warmup_iters=30, warmup_ratio=0.01),
                            warmed(lambda i: 0.1 if i // L >= 8 else 1.0, 'exp', 30, 0.01)),
    'a step within the warm-up': (
        dict(policy='step', step=[1], warmup='exp', warmup_iters=50, warmup_ratio=0.1),
        warmed(lambda i: 0.1 if i // L >= 1 else 1.0, 'exp', 50, 0.1)),
}


@pytest.mark.parametrize('name', EXACT)
def test_the_curve_is_that_of_2x(load, name):
    settings, rate = EXACT[name]
    got = lr_curve(loaded(load, settings), L)
    np.testing.assert_allclose(got, [rate(i) for i in range(TOTAL)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('warmup', ['linear', 'constant'])
def test_a_warm_up_ends_one_iteration_before_2x(load, warmup):
    """As in the zoo of 3.x: at iteration 49 of 50 the factor is 1, where in 2.x it is at iteration 50."""
    N, ratio = 50, 0.1
    cfg = loaded(load, dict(policy='step', step=[8, 11], warmup=warmup, warmup_iters=N, warmup_ratio=ratio))
    assert cfg.param_scheduler[0].end == N
    got = lr_curve(cfg, L)
    rate = warmed(lambda i: 0.1 ** sum(i // L >= s for s in (8, 11)), warmup, N, ratio)
    np.testing.assert_allclose(got[N:], [rate(i) for i in range(N, TOTAL)], rtol=1e-9)
    if warmup == 'constant':
        np.testing.assert_allclose(got[:N - 1], [ratio] * (N - 1))
    else:
        np.testing.assert_allclose(got[:N], [ratio + (1 - ratio) * i / (N - 1) for i in range(N)], rtol=1e-9)
        assert max(abs(g - rate(i)) for i, g in enumerate(got)) < (1 - ratio) / (N - 1)


def test_a_warm_up_of_whole_epochs(load):
    cfg = loaded(load, dict(policy='step', step=[8], warmup='linear', warmup_iters=2, warmup_ratio=0.1,
                            warmup_by_epoch=True))
    got = lr_curve(cfg, L)
    assert got[0] == pytest.approx(0.1) and got[2 * L - 1] == pytest.approx(1) and got[L] < 0.7


@pytest.mark.parametrize('ratio', [1, 1.0])
def test_a_warm_up_from_the_full_rate_is_none(load, ratio):
    settings = dict(policy='step', step=[8], warmup='linear', warmup_iters=10, warmup_ratio=ratio)
    assert [s.type for s in loaded(load, settings).param_scheduler] == ['MultiStepLR']


def test_yolox(load):
    settings = dict(policy='YOLOX', warmup='exp', by_epoch=False, warmup_by_epoch=True, warmup_ratio=1, warmup_iters=2,
                    num_last_epochs=3, min_lr_ratio=0.05)
    warm, last = 2 * L, 3 * L
    want = [((i + 1) / warm) ** 2 if i < warm else cosine(1, 0.05, (i - warm) / (TOTAL - warm - last))
            if i < TOTAL - last else 0.05 for i in range(TOTAL)]
    # the last epochs have the rate of the cosine's last iteration, which is a step away from its end
    np.testing.assert_allclose(lr_curve(loaded(load, settings), L), want, atol=2e-4)


def test_one_turn_up_and_down(load):
    settings = dict(policy='cyclic', target_ratio=(10, 1e-2), cyclic_times=1, step_ratio_up=0.25)
    got = lr_curve(loaded(load, settings), L)
    up = TOTAL // 4
    want = [cosine(1, 10, i / up) if i < up else cosine(10, 1e-2, (i - up) / (TOTAL - up)) for i in range(TOTAL)]
    np.testing.assert_allclose(got, want, atol=0.02)


def test_one_cycle(load):
    cfg = loaded(load, dict(policy='OneCycle', max_lr=0.1, pct_start=0.25, div_factor=10.0))
    got = np.array(build_schedules(cfg, L)['lr'].shift)
    assert got[0] == pytest.approx(0.01) and got.max() == pytest.approx(0.1) and int(got.argmax()) == TOTAL // 4 - 1


def test_a_run_by_iterations(load):
    settings = dict(policy='step', step=[60, 80], warmup='linear', warmup_iters=10, warmup_ratio=0.1)
    cfg = loaded(load, settings, "type='IterBasedRunner', max_iters=90")
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=90, val_interval=1)
    assert cfg.param_scheduler == [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
        dict(type='MultiStepLR', begin=0, end=90, by_epoch=False, milestones=[60, 80], gamma=0.1)]
    curve = lr_curve(cfg, L)
    assert [curve[i] for i in (59, 60, 80)] == pytest.approx([1, 0.1, 0.01])


def test_a_lowest_rate_is_a_rate_and_no_share(load):
    cfg = loaded(load, dict(policy='CosineAnnealing', min_lr=1e-3), lr=0.1)
    schedule = build_schedules(cfg, L)['lr']
    assert schedule.at(0.1, TOTAL - L) == pytest.approx(cosine(0.1, 1e-3, 11 / 12))


def test_momentum_goes_the_other_way(load):
    cfg = loaded(load, dict(policy='fixed'), more="momentum_config = dict(policy='CosineAnnealing', min_momentum=0.5)")
    assert [s.type for s in cfg.param_scheduler] == ['CosineAnnealingMomentum']
    momentum = build_schedules(cfg, L)['momentum']
    np.testing.assert_allclose([momentum.at(0.9, i) for i in range(TOTAL)],
                               [cosine(0.9, 0.5, i // L / EPOCHS) for i in range(TOTAL)])


@pytest.mark.parametrize(('text', 'loop'), [
    ("runner = dict(type='EpochBasedRunner', max_epochs=3)", dict(type='EpochBasedTrainLoop', max_epochs=3)),
    ('runner = dict(max_epochs=3)\ntotal_epochs = 3', dict(type='EpochBasedTrainLoop', max_epochs=3)),
    ('total_epochs = 3', dict(type='EpochBasedTrainLoop', max_epochs=3)),
    ("runner = dict(type='IterBasedRunner', max_iters=9)", dict(type='IterBasedTrainLoop', max_iters=9)),
])
def test_the_length_of_a_run(load, text, loop):
    cfg = load(text)
    assert cfg.train_cfg == dict(loop, val_interval=1)
    assert (cfg.val_cfg, cfg.test_cfg) == (dict(type='ValLoop'), dict(type='TestLoop'))
    assert not {'runner', 'total_epochs'} & set(cfg)


@pytest.mark.parametrize(('text', 'message'), [
    ("lr_config = dict(policy='setp', step=[8])", r"cfg.py:1: lr_config.policy: there is no 'setp'; did you mean 'st"),
    ("lr_config = dict(step=[8])", r'cfg.py:1: lr_config.policy: it is missing; there are fixed, step'),
    ("lr_config = dict(policy='step', step=[8], power=2)", r"cfg.py:1: lr_config.power: the policy 'step' has no such"),
    ("lr_config = dict(policy='step', stepp=[8])", r"lr_config.stepp: .* did you mean 'step'\?"),
    ("lr_config = dict(policy='step')", r"lr_config.step: it is missing; 'step' needs it"),
    ("lr_config = dict(policy='step', step='8')", r"lr_config.step: it is a number, or a list of numbers; found '8'"),
    ("lr_config = dict(policy='exp')", r'lr_config.gamma: it is missing'),
    ("lr_config = dict(policy='inv', gamma=1)", r"lr_config.policy: 3.x has nothing that makes the curve of 'inv'"),
    ("lr_config = dict(policy='cyclic', cyclic_times=2)\ntotal_epochs=9", r'lr_config.cyclic_times: 3.x can express 1'),
    ("lr_config = dict(policy='CosineAnnealing')", r'lr_config: this policy needs the length of the run'),
    ("lr_config = dict(policy='step', step=[8], warmup='sudden')", r"lr_config.warmup: there is no 'sudden'"),
    ("lr_config = dict(policy='step', step=[8], warmup='linear', warmup_iters=0)", r'warmup_iters must be above 0'),
    ('runner = dict(max_epochs=3)\ntotal_epochs = 4', r'cfg.py:2: total_epochs: it is 4, but runner has max_epochs=3'),
    ("runner = dict(type='IterBasedRunner', max_epochs=3)", r'cfg.py:1: runner: IterBasedRunner needs max_iters'),
    ("runner = dict(type='EpochRunner')", r"there is no 'EpochRunner'; did you mean 'EpochBasedRunner'\?"),
])
def test_contradictions_are_told_with_their_line(load, text, message):
    with pytest.raises(ConfigError, match=message):
        load(text)


def test_a_schedule_without_an_optimizer_or_runner_is_part_of_a_config(load):
    """`_base_/schedules/` of a project: half of an experiment."""
    cfg = load("lr_config = dict(policy='step', step=[8])")
    assert cfg == dict(param_scheduler=[
        dict(type='MultiStepLR', begin=0, by_epoch=True, milestones=[8], gamma=0.1)])
