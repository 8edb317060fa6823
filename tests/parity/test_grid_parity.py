"""FCOS, ATSS, GFL, TOOD and YOLOX against what MMDetection 3.3 builds and computes."""

from __future__ import annotations

import pytest
import torch
from harness import Comparison, records, structure

import omnidet
from omnidet.config.check import problems

FIXTURE = records('grid')
LAYOUTS, RECORDS = FIXTURE['layouts'], FIXTURE['records']

# One of each head; the others, which differ in depth or schedule, are built with the slow tests.
KINDS = {
    'fcos/fcos_r50-dcn-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py',
    'fcos/fcos_r18_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py',
    'atss/atss_r18_fpn_8xb8-amp-lsj-200e_coco.py',
    'gfl/gfl_r50_fpn_1x_coco.py',
    'tood/tood_r50_fpn_1x_coco.py',
    'yolox/yolox_nano_8xb8-300e_coco.py',
    'yolox/yolox_s_8xb8-300e_coco.py',
}
SMALL = {'yolox/yolox_nano_8xb8-300e_coco.py'}


def _slow_unless(configs, fast):
    return [pytest.param(c, marks=[] if c in fast else [pytest.mark.slow]) for c in configs]


def test_fast_tests_name_recorded_configs():
    assert set(LAYOUTS) >= KINDS and set(RECORDS) >= SMALL and set(LAYOUTS) >= set(RECORDS)


@pytest.mark.parametrize('config', _slow_unless(LAYOUTS, KINDS))
def test_model_is_built_as_recorded(config):
    with torch.device('meta'):
        model = omnidet.build_model(omnidet.load_config(config.removesuffix('.py'))).train()
    assert not structure(model, LAYOUTS[config])


@pytest.mark.parametrize('config', _slow_unless(LAYOUTS, KINDS))
def test_config_passes_the_check_before_a_training(config):
    assert not problems(omnidet.load_config(config.removesuffix('.py')))


@pytest.fixture(scope='module')
def comparison(request):
    return Comparison(request.param, RECORDS[request.param])


@pytest.mark.parametrize('comparison', _slow_unless(RECORDS, SMALL), indirect=True)
class TestNumbers:
    def test_features(self, comparison):
        assert not comparison.features()

    def test_detections(self, comparison):
        assert not comparison.detections()

    def test_losses(self, comparison):
        assert not comparison.losses()

    def test_gradients(self, comparison):
        if 'grad' not in comparison.record:
            pytest.skip('gradients were recorded for some of the models only')
        assert not comparison.gradients()
