"""Averages of weights against loops over numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from omnidet.engine.ema import AVERAGES


def walk(kind: str, steps: int = 30, **kwargs) -> tuple[list[float], list[float]]:
    """The average after each step of a weight that takes the values 1, 4, 9, ..., and those values."""
    model = nn.Linear(1, 1)
    average = AVERAGES.build(dict(type=kind, **kwargs), model=model)
    got, raw = [], []
    for t in range(steps):
        nn.init.constant_(model.weight, float((t + 1) ** 2))
        average.update(model)
        raw.append(float(model.weight.detach()))
        got.append(float(average.module.weight))
    return got, raw


@pytest.mark.parametrize(('kind', 'kwargs', 'share'), [
    ('ExponentialMovingAverage', dict(momentum=0.1), lambda t: 0.1),
    ('ExpMomentumEMA', dict(momentum=0.01, gamma=20), lambda t: 0.99 * math.exp(-(1 + t) / 20) + 0.01),
    ('MomentumAnnealingEMA', dict(momentum=0.1, gamma=5), lambda t: max(0.1, 5 / (5 + t))),
    ('StochasticWeightAverage', {}, lambda t: 1 / (t + 1))])
def test_average_equals_a_naive_loop(kind, kwargs, share):
    got, raw = walk(kind, **kwargs)
    value = raw[0]
    for t, x in enumerate(raw):
        if t:
            value = (1 - share(t)) * value + share(t) * x
        assert got[t] == pytest.approx(value, rel=1e-5)


def test_stochastic_average_is_the_mean():
    got, raw = walk('StochasticWeightAverage')
    assert got[-1] == pytest.approx(sum(raw) / len(raw), rel=1e-5)


def test_interval_skips_steps():
    got, raw = walk('ExponentialMovingAverage', steps=5, momentum=0.5, interval=2)
    assert got == pytest.approx([1, 1, (1 + raw[2]) / 2, (1 + raw[2]) / 2, ((1 + raw[2]) / 2 + raw[4]) / 2])


@pytest.mark.parametrize('update_buffers', [True, False])
def test_buffers_are_averaged_or_copied_and_counts_are_copied(update_buffers):
    model = nn.BatchNorm1d(1)
    cfg = dict(type='ExponentialMovingAverage', momentum=0.25, update_buffers=update_buffers)
    average = AVERAGES.build(cfg, model=model)
    for value in (1.0, 5.0):
        model.running_mean.fill_(value)
        model.num_batches_tracked.fill_(int(value))
        average.update(model)
    assert float(average.module.running_mean) == (2.0 if update_buffers else 5.0)
    assert int(average.module.num_batches_tracked) == 5


def test_average_leaves_the_model_alone_and_needs_no_gradient():
    model = nn.Linear(2, 2)
    average = AVERAGES.build(dict(type='ExpMomentumEMA'), model=model)
    before = model.weight.detach().clone()
    average.update(model)
    average.update(model)
    assert torch.equal(model.weight, before) and model.weight.requires_grad
    assert not any(p.requires_grad for p in average.module.parameters())
