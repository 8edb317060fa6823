"""SOLOv2, CondInst and RTMDet-Ins against what MMDetection 3.3 builds and computes."""

from __future__ import annotations

import pytest
import torch
from harness import Comparison, records, structure

import omnidet
from omnidet.config.check import problems

FIXTURE = records('masks')
LAYOUTS, RECORDS = FIXTURE['layouts'], FIXTURE['records']
SMALL = {'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py'}


def test_fast_tests_name_recorded_configs():
    assert set(LAYOUTS) >= set(RECORDS) >= SMALL


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


@pytest.mark.parametrize('comparison', [pytest.param(c, marks=() if c in SMALL else pytest.mark.slow)
                                        for c in RECORDS], indirect=True)
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
