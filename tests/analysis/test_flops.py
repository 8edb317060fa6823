"""Parameters and multiply-adds: counted by hand for a small model, and those that MMDetection's tables give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import omnidet
from omnidet.analysis.flops import count_flops, default_shape, padded
from omnidet.registry import BACKBONES


@pytest.mark.parametrize(('name', 'parameters', 'gmacs'), [
    # parameters in millions as MMDetection's pages give them; GMACs by the papers' tables, which count a little more
    ('retinanet/retinanet_r50_fpn_1x_coco', 37.97, 239),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', 44.40, 260),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', 41.75, 207),
    ('ssd/ssd300_coco', 34.31, 34.36),
    ('rtmdet/rtmdet_tiny_8xb32-300e_coco', 4.9, 8.03),
    ('yolox/yolox_s_8xb8-300e_coco', 8.97, 13.33),
    ('swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco', 69.1, 359),
])
def test_figures_are_those_that_tables_give(name, parameters, gmacs):
    found = count_flops(omnidet.load_config(name))
    assert found.total.parameters / 1e6 == pytest.approx(parameters, abs=0.05)
    assert found.total.macs / 1e9 == pytest.approx(gmacs, rel=0.005)
    assert sum(r.parameters for r in found.rows) == found.total.parameters
    assert sum(r.macs for r in found.rows) == pytest.approx(found.total.macs)


def test_the_second_stage_is_counted_on_as_many_boxes_as_pass_the_first():
    cfg = omnidet.load_config('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    stage = {r.name: r.macs for r in count_flops(cfg).rows}['roi_head']
    per_box = 256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 4 * 80)
    assert stage == 1000 * per_box
    cfg.model.test_cfg.rpn.max_per_img = 300
    found = count_flops(cfg)
    assert {r.name: r.macs for r in found.rows}['roi_head'] == 300 * per_box
    assert found.notes == ['the second stage looks at 300 boxes']


class _Stem(nn.Module):
    """One convolution, one attention and one deformable convolution."""

    def __init__(self) -> None:
        super().__init__()
        from omnidet.nn.deform_conv import DeformConv2dPack
        self.conv = nn.Conv2d(3, 8, 3, stride=16, padding=1, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.deform = DeformConv2dPack(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.conv(x)
        y = x.flatten(2).transpose(1, 2)
        y = self.attention(y, y, y)[0].transpose(1, 2).view_as(x)
        return (self.deform(y),)


def test_layers_are_counted_as_by_hand():
    BACKBONES.register(_Stem, 'StemForCounting', force=True)
    cfg = omnidet.load_config('retinanet/retinanet_r50_fpn_1x_coco').to_dict()
    cfg['model'].update(backbone=dict(type='StemForCounting'), neck=None)
    cfg['model']['bbox_head'].update(in_channels=8, feat_channels=8, stacked_convs=1, num_classes=2)
    cfg['model']['bbox_head']['anchor_generator'].update(strides=[16])
    found = count_flops(cfg, (64, 96), depth=2)
    macs = {r.name: r.macs for r in found.rows}
    T = 4 * 6    # cells
    assert macs['backbone.conv'] == T * 8 * 3 * 9
    assert macs['backbone.attention'] == T * 8 * 24 + 2 * T * T * 8 + T * 8 * 8    # qkv, products, output
    assert macs['backbone.deform'] == T * 8 * 8 * 9 + T * 18 * 8 * 9    # and the convolution that finds its offsets
    assert macs['bbox_head'] == T * 9 * (2 * 8 * 8 + 8 * 9 * 2 + 8 * 9 * 4)


def test_a_model_whose_work_depends_on_what_it_finds_is_run():
    cfg = omnidet.load_config('condinst/condinst_r50_fpn_ms-poly-90k_coco_instance')
    found = count_flops(cfg, (64, 64))
    assert 'random weights' in found.notes[0]
    assert all(r.macs > 0 for r in found.rows if r.name != '(outside of modules)')


def test_frozen_parameters_are_told_apart():
    total = count_flops(omnidet.load_config('retinanet/retinanet_r50_fpn_1x_coco'), (64, 64)).total
    stem_and_first_stage = 64 * 3 * 49 + 2 * 64 + 215808
    assert total.parameters - total.trained == stem_and_first_stage


@pytest.mark.parametrize(('name', 'shape'), [('retinanet/retinanet_r50_fpn_1x_coco', (1280, 800)),
                                             ('ssd/ssd300_coco', (300, 300)), ('yolox/yolox_tiny', (416, 416))])
def test_the_default_image_is_the_one_that_a_config_tests_with(name, shape):
    assert default_shape(omnidet.load_config(name)) == shape


def test_images_are_enlarged_as_the_preprocessor_pads():
    assert padded((1280, 801), omnidet.load_config('retinanet/retinanet_r50_fpn_1x_coco')) == (1280, 832)
    assert padded((301, 300), omnidet.load_config('ssd/ssd300_coco')) == (301, 300)
