"""RTMDet against recorded names, shapes, features, detections, losses and gradients of MMDetection 3.3."""

from __future__ import annotations

import collections

import pytest
import torch
from harness import Comparison, records

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
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert collections.Counter((m.eps, m.momentum) for m in norms) == {(e, m): n for e, m, n in record['norms']}
    assert [sum(m.training for m in norms), len(norms)] == record['train_bn']
    assert sum(p.numel() for p in model.parameters()) == record['n_params']


@pytest.mark.parametrize('comparison', _sizes(RECORDED), indirect=True)
class TestNumbers:
    def test_features(self, comparison):
        noise = comparison.record['tol_raw']    # what rounding alone was measured to do
        off = [(e, n) for e, n in zip(comparison.feature_errors(), noise, strict=True) if e > max(5e-3, 3 * n)]
        assert not off

    def test_detections(self, comparison):
        share = min(0.9, comparison.record['agree'] - 0.1)    # of those that rounding alone leaves alike
        for found, of in comparison.matched_detections():
            assert of > 0 and found >= share * of

    def test_losses(self, comparison):
        got = {k: v.item() for k, v in comparison.losses().items()}
        for name, want in comparison.record['loss'].items():
            noise = comparison.record['tol_loss'].get(name, 0.0)
            assert got.pop(name) == pytest.approx(want, rel=max(2e-3, 3 * noise), abs=2e-4)
        assert not got

    def test_gradients(self, comparison):
        want = comparison.record.get('grad')
        if want is None:
            pytest.skip('gradients were recorded for the smaller models only')
        got, top = comparison.gradients(), max(want.values())
        tol = max(0.02, 3 * comparison.record['tol_grad'])
        off = [k for k, v in want.items() if got[k] != pytest.approx(v, rel=tol, abs=1e-4 * top)]
        assert len(off) <= 0.01 * len(want), off[:5]
