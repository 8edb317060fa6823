"""Mask2Former against what MMDetection 3.3 builds and computes."""

from __future__ import annotations

import pytest
import torch
from harness import Comparison, digest, records, structure

import omnidet
from omnidet.config.check import problems
from omnidet.models.dense_heads.query import mask2former_head
from omnidet.ops import points as points_ops

FIXTURE = records('mask2former')
LAYOUTS, RECORDS = FIXTURE['layouts'], FIXTURE['records']


@pytest.mark.parametrize('config', LAYOUTS)
def test_model_is_built_as_recorded(config):
    with torch.device('meta'):
        model = omnidet.build_model(omnidet.load_config(config.removesuffix('.py'))).train()
    assert not structure(model, LAYOUTS[config])


@pytest.mark.parametrize('config', LAYOUTS)
def test_config_passes_the_check_before_a_training(config):
    assert not problems(omnidet.load_config(config.removesuffix('.py')))


@pytest.fixture(scope='module')
def comparison(request):
    return Comparison(request.param, RECORDS[request.param])


def replay(comparison, monkeypatch):
    """The losses at the points that the reference draws with the seed 0, in its order.

    That is layer by layer: points to match at for each image, then many points for each matched query, image by image
    in the queries' order, of which the most uncertain ones are taken, then the other points for each.
    """
    head, counts = comparison.model.panoptic_head, comparison.record['counts']
    P, M, widest = head.training_cfg.num_points, sum(counts), max(counts)
    torch.manual_seed(0)
    drawn = [(torch.cat([torch.rand(1, P, 2) for _ in counts]), torch.rand(M, 3 * P, 2),
              torch.rand(M, P - 3 * P // 4, 2)) for _ in range(10)]
    wanted = iter([drawn[-1][0], *(points for layer in drawn for points in layer[1:])])
    rows = [b * widest + g for b, n in enumerate(counts) for g in range(n)]    # the others have no object

    def recorded_points(count, num_points, device):
        points, out = next(wanted), torch.zeros(count, num_points, 2)
        out[slice(None) if len(points) == count else rows] = points
        return out
    monkeypatch.setattr(mask2former_head, 'even_points', recorded_points)
    monkeypatch.setattr(points_ops, 'even_points', recorded_points)
    return {k: v.item() for k, v in comparison._losses().items()}


@pytest.mark.slow
@pytest.mark.parametrize('comparison', RECORDS, indirect=True)
class TestNumbers:
    def test_features(self, comparison):
        assert not comparison.features()

    def test_segments(self, comparison):
        with torch.no_grad():
            results = comparison.model.eval().predict(comparison.images, comparison.metas)
        for result, want in zip(results, comparison.record['predict'], strict=True):
            assert len(result) == want['n']
            mine = [round(v) for v in digest(result.panoptic.float(), 400)['values']]
            theirs = want['panoptic']['values']
            assert sum(a % 1000 == b % 1000 for a, b in zip(mine, theirs, strict=True)) >= 0.99 * len(theirs)
            assert abs(len(result.panoptic.unique()) - want['panoptic']['segments']) <= 1

    def test_losses_at_the_recorded_points(self, comparison, monkeypatch):
        """The record's points are those that its seed draws; with them the losses are the same to four digits.

        Ours match at points that all layers share, the recorded ones at points of their own: where two queries are as
        good, a layer may match another one.
        """
        with torch.no_grad():
            got = replay(comparison, monkeypatch)
        want = comparison.record['loss']
        assert got.keys() == want.keys()
        off = {k.rpartition('loss')[0] for k in want if abs(got[k] / want[k] - 1) > 5e-4}
        assert len(off) <= 2
        assert all(abs(got[k] / want[k] - 1) < 0.02 for k in want)

    def test_gradients(self, comparison):
        torch.manual_seed(0)
        assert not comparison.gradients()
