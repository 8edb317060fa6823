"""RTMDet against recorded names, shapes, features, detections, losses and gradients of MMDetection 3.3."""

from __future__ import annotations

import collections

import pytest
import torch
from harness import BATCH_NORM, Comparison, records

import omnidet

RECORDS = records('rtmdet')
RECORDED = [c for c, r in RECORDS.items() if r['record']]


def _sizes(configs):
    """The small models always, the others with the slow tests."""
    return [pytest.param(c, marks=() if '_tiny_' in c else pytest.mark.slow) for c in configs]


@pytest.fixture(scope='module')
def comparison(request):
    return Comparison(request.param, RECORDS[request.param]['record'])


@pytest.mark.parametrize('config', RECORDS)
def test_names_shapes_and_norms_are_the_recorded_ones(config):
    with torch.device('meta'):
        model = omnidet.build_model(omnidet.load_config(config.removesuffix('.py')))
    record = RECORDS[config]
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == record['layout']
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORM)]
    assert collections.Counter((m.eps, m.momentum) for m in norms) == {(e, m): n for e, m, n in record['norms']}
    assert [sum(m.training for m in norms), len(norms)] == record['train_bn']
    assert sum(p.numel() for p in model.parameters()) == record['n_params']


@pytest.mark.parametrize('comparison', _sizes(RECORDED), indirect=True)
class TestNumbers:
    def test_features(self, comparison):
        assert not comparison.features()

    def test_detections(self, comparison):
        assert not comparison.detections()

    def test_losses(self, comparison):
        assert not comparison.losses()

    def test_gradients(self, comparison):
        if 'grad' not in comparison.record:
            pytest.skip('gradients were recorded for the smaller models only')
        assert not comparison.gradients()
