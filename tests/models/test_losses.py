"""Losses against their published equations, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from omnidet.errors import ConfigError
from omnidet.registry import LOSSES


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_quality_focal_loss_is_the_papers_equation():
    logits, quality, label = [0.3, -1.2], 0.7, 1
    want = 0.0
    for k, x in enumerate(logits):
        p, y = _sigmoid(x), quality if k == label else 0.0
        want += abs(y - p) ** 2 * -((1 - y) * math.log(1 - p) + y * math.log(p))
    loss = LOSSES.build({'type': 'QualityFocalLoss', 'beta': 2.0, 'loss_weight': 3.0})
    got = loss(tensor([logits]), (tensor([label]), tensor([quality])))
    assert got.item() == pytest.approx(3 * want, rel=1e-5)


def test_quality_focal_loss_takes_every_class_as_negative_for_background():
    loss = LOSSES.build({'type': 'QualityFocalLoss'})
    logits = [0.3, -1.2]
    want = sum(_sigmoid(x) ** 2 * -math.log(1 - _sigmoid(x)) for x in logits)
    got = loss(tensor([logits]), (tensor([2]), tensor([0.9])))
    assert got.item() == pytest.approx(want, rel=1e-5)


def test_quality_focal_loss_of_probabilities_equals_that_of_logits():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    target = (tensor([0, 4, 2, 1, 4]), tensor([0.1, 0.5, 0.9, 1.0, 0.0]))
    a = LOSSES.build({'type': 'QualityFocalLoss'})(logits, target)
    b = LOSSES.build({'type': 'QualityFocalLoss', 'activated': True})(logits.sigmoid(), target)
    assert a.item() == pytest.approx(b.item(), rel=1e-5)


PRED, TARGET = tensor([[0., 0., 2., 2.]]), tensor([[1., 1., 3., 3.]])    # IoU 1/7


@pytest.mark.parametrize(('cfg', 'want'), [
    ({'type': 'IoULoss'}, math.log(7)),
    ({'type': 'IoULoss', 'mode': 'linear'}, 6 / 7),
    ({'type': 'IoULoss', 'linear': True}, 6 / 7),
    ({'type': 'IoULoss', 'mode': 'square'}, 1 - 1 / 49),
    ({'type': 'GIoULoss', 'loss_weight': 2.0}, 2 * (1 - 1 / 7 + 2 / 9)),
    ({'type': 'DIoULoss'}, 1 - 1 / 7 + 1 / 9),
    ({'type': 'CIoULoss'}, 1 - 1 / 7 + 1 / 9),    # equal aspect ratios
])
def test_overlap_losses(cfg, want):
    assert LOSSES.build(cfg)(PRED, TARGET).item() == pytest.approx(want, abs=1e-5)


def test_weights_and_averages():
    loss = LOSSES.build({'type': 'IoULoss', 'mode': 'linear'})
    pred, target = PRED.repeat(2, 1), torch.cat([TARGET, PRED])
    assert loss(pred, target).item() == pytest.approx(3 / 7)
    assert loss(pred, target, tensor([2., 1.])).item() == pytest.approx(6 / 7)
    assert loss(pred, target, tensor([[2.] * 4, [1.] * 4]), avg_factor=4).item() == pytest.approx(3 / 7)
    assert loss(pred, target, reduction_override='none').tolist() == pytest.approx([6 / 7, 0], abs=1e-6)
    assert loss(pred[:0], target[:0]).item() == 0


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match='mode'):
        LOSSES.build({'type': 'IoULoss', 'mode': 'cubic'})
    with pytest.raises(ConfigError, match='reduced'):
        LOSSES.build({'type': 'GIoULoss', 'reduction': 'avg'})(PRED, TARGET)
    with pytest.raises(ConfigError, match='use_sigmoid'):
        LOSSES.build({'type': 'QualityFocalLoss', 'use_sigmoid': False})
