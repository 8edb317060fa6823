"""RetinaNet, the R-CNN line and their variants against what MMDetection 3.3 builds and computes."""

from __future__ import annotations

import pytest
import torch
from harness import Comparison, records, structure

import omnidet

FIXTURE = records('rcnn')
LAYOUTS, RECORDS = FIXTURE['layouts'], FIXTURE['records']

# One of each kind of model; the others, which differ in depth or schedule, are built with the slow tests.
KINDS = {
    'retinanet/retinanet_r18_fpn_1x_coco.py',
    'rpn/rpn_r50-caffe-c4_1x_coco.py',
    'fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py',
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py',
    'mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'gn+ws/mask-rcnn_r50_fpn_gn-ws-all_2x_coco.py',
    'gcnet/mask-rcnn_r50-syncbn-gcb-r4-c3-c5_fpn_1x_coco.py',
    'empirical_attention/faster-rcnn_r50-attn1111-dcn_fpn_1x_coco.py',
    'dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco.py',
    'pafpn/faster-rcnn_r50_pafpn_1x_coco.py',
    'scratch/faster-rcnn_r50-scratch_fpn_gn-all_6x_coco.py',
    'pascal_voc/ssd512_voc0712.py',
}
SMALL = {
    'retinanet/retinanet_r18_fpn_1x_coco.py',
    'mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py',
}


def _slow_unless(configs, fast):
    return [pytest.param(c, marks=() if c in fast else pytest.mark.slow) for c in configs]


def test_fast_tests_name_recorded_configs():
    assert set(LAYOUTS) >= KINDS and set(RECORDS) >= SMALL and set(LAYOUTS) >= set(RECORDS)


@pytest.mark.parametrize('config', _slow_unless(LAYOUTS, KINDS))
def test_model_is_built_as_recorded(config):
    with torch.device('meta'):
        model = omnidet.build_model(omnidet.load_config(config.removesuffix('.py'))).train()
    assert not structure(model, LAYOUTS[config])


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
