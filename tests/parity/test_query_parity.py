"""DETR, Deformable DETR and DINO against what MMDetection 3.3 builds and computes."""

from __future__ import annotations

import pytest
import torch
from harness import Comparison, records, structure

import omnidet
from omnidet.config.check import problems

FIXTURE = records('queries')
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


@pytest.mark.slow
@pytest.mark.parametrize('comparison', RECORDS, indirect=True)
class TestNumbers:
    def test_features(self, comparison):
        assert not comparison.features()

    def test_detections(self, comparison):
        assert not comparison.detections()

    def test_losses(self, comparison):
        assert not comparison.losses()

    def test_gradients(self, comparison):
        assert not comparison.gradients()
