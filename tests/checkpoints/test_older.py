"""Weights of older releases: their names, and the place of the background."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from torch import nn

import omnidet
from omnidet.checkpoints import load_checkpoint, load_weights
from omnidet.checkpoints.checkpoint import fitted
from omnidet.checkpoints.older import background_last, current_names

# Backwards: what a name of today was called, as the structure of the older models gives it. In MMDetection 2.x a layer
# of a transformer has its attentions in the order in which they are applied, and a list of feed-forward networks.
ENCODER_2X = [(r'^encoder\.layers\.(\d+)\.self_attn\.', r'bbox_head.transformer.encoder.layers.\1.attentions.0.'),
              (r'^encoder\.layers\.(\d+)\.ffn\.', r'bbox_head.transformer.encoder.layers.\1.ffns.0.')]
DECODER_2X = [(r'^decoder\.layers\.(\d+)\.self_attn\.', r'bbox_head.transformer.decoder.layers.\1.attentions.0.'),
              (r'^decoder\.layers\.(\d+)\.cross_attn\.', r'bbox_head.transformer.decoder.layers.\1.attentions.1.'),
              (r'^decoder\.layers\.(\d+)\.ffn\.', r'bbox_head.transformer.decoder.layers.\1.ffns.0.')]
COMMON_2X = [(r'^(encoder|decoder)\.', r'bbox_head.transformer.\1.'),
             (r'^query_embedding', 'bbox_head.query_embedding')]
DETR_2X = [*ENCODER_2X, *DECODER_2X, *COMMON_2X, (r'^neck\.convs\.0\.conv\.', 'bbox_head.input_proj.')]
DEFORMABLE_2X = [*ENCODER_2X, *DECODER_2X, *COMMON_2X, ('^level_embed$', 'bbox_head.transformer.level_embeds'),
                 (r'^reference_points_fc\.', 'bbox_head.transformer.reference_points.'),
                 (r'^memory_trans_fc\.', 'bbox_head.transformer.enc_output.'),
                 (r'^memory_trans_norm\.', 'bbox_head.transformer.enc_output_norm.'),
                 (r'^pos_trans_fc\.', 'bbox_head.transformer.pos_trans.'),
                 (r'^pos_trans_norm\.', 'bbox_head.transformer.pos_trans_norm.')]
DETR_24 = [(r'^(encoder\.layers\.\d+\.self_attn\.)', r'bbox_head.transformer.\1'),
           (r'^(decoder\.layers\.\d+)\.cross_attn\.', r'bbox_head.transformer.\1.multihead_attn.'),
           (r'^decoder\.post_norm\.', 'bbox_head.transformer.decoder.norm.'), *COMMON_2X,
           (r'^neck\.convs\.0\.conv\.', 'bbox_head.input_proj.')]
MASK2FORMER_2X = [(r'(pixel_decoder\.encoder\.layers\.\d+)\.self_attn\.', r'\1.attentions.0.'),
                  (r'(transformer_decoder\.layers\.\d+)\.cross_attn\.', r'\1.attentions.0.'),
                  (r'(transformer_decoder\.layers\.\d+)\.self_attn\.', r'\1.attentions.1.'),
                  (r'(panoptic_head\..*\.layers\.\d+)\.ffn\.', r'\1.ffns.0.')]
SSD_213 = [(r'^neck\.extra_layers\.(\d)\.(\d)\.conv\.', lambda m: f'backbone.extra.{2 * int(m[1]) + int(m[2])}.'),
           (r'^neck\.l2_norm', 'backbone.l2_norm'), (r'^(bbox_head\.(?:cls|reg)_convs\.\d)\.0\.', r'\1.')]
TWO_STAGES_1X = [(r'^roi_head\.', '')]
DCN_1X = [*TWO_STAGES_1X, (r'conv2\.conv_offset\.', 'conv2_offset.')]
FCOS_1X = [(r'^bbox_head\.conv_(cls|reg|centerness)', r'bbox_head.fcos_\1')]
RETINANET_06 = [(r'^(bbox_head\.(?:cls|reg)_convs\.\d)\.conv\.', r'\1.')]


def _backwards(name, table):
    for pattern, older in table:
        name = re.sub(pattern, older, name)
    return name


@pytest.mark.parametrize(('config', 'table', 'count'), [
    ('detr/detr_r50_8xb2-150e_coco', DETR_2X, 185),
    ('detr/detr_r50_8xb2-150e_coco', DETR_24, 185),
    ('deformable_detr/deformable-detr_r50_16xb2-50e_coco', DEFORMABLE_2X, 232),
    ('deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco', DEFORMABLE_2X, 237),
    ('mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic', MASK2FORMER_2X, 180),
    ('ssd/ssd300_coco', SSD_213, 41),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', TWO_STAGES_1X, 20),
    ('dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco', DCN_1X, 34),
    ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco', FCOS_1X, 6),
    ('retinanet/retinanet_r50_fpn_1x_coco', RETINANET_06, 16),
])
def test_every_name_of_an_older_release_finds_its_place(config, table, count, caplog):
    with torch.device('meta'):
        own = omnidet.build_model(omnidet.load_config(config)).state_dict()
    older = {_backwards(name, table): name for name in own}
    assert len(older) == len(own)
    assert sum(a != b for a, b in older.items()) == count
    with caplog.at_level(logging.INFO, 'omnidet'):
        got = fitted(older, own, 'old.pth')
    assert got == {name: name for name in own}
    assert list(got.values()) == list(older.values())    # in the file's order, which the optimizer's state follows
    assert len([r for r in caplog.records if 'older than the model' in r.message]) == 1
    assert current_names(own, own) == ({}, [])


def test_weights_of_2x_are_those_of_the_model(caplog):
    cfg = omnidet.load_config('detr/detr_r50_8xb2-150e_coco').model
    cfg.backbone.update(depth=18, norm_cfg=dict(type='BN'))
    cfg.neck.in_channels = [512]
    cfg.encoder.num_layers = cfg.decoder.num_layers = 1
    source, target = omnidet.build_model(cfg), omnidet.build_model(cfg)
    state = {'module.' + _backwards(k, DETR_2X): v for k, v in source.state_dict().items()}
    with caplog.at_level(logging.INFO, 'omnidet'):
        report = load_weights(target, state, 'old.pth', strict=True)
    assert report.complete and not report.unexpected
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())
    assert 'DETR and its kin' in caplog.text


def test_names_that_the_model_has_stay():
    own = ['bbox_head.fcos_cls.weight', 'bbox_head.conv_cls.weight']
    assert current_names(own[:1], own) == ({}, [])
    # a name that is there already is not written over by an older one
    assert current_names([own[0], own[1]], own[1:]) == ({}, [])


def test_the_order_of_attentions_is_the_models():
    older = 'panoptic_head.transformer_decoder.layers.0.attentions.0.w'
    first, second = (older.replace('attentions.0', a) for a in ('self_attn', 'cross_attn'))
    assert current_names([older], [first, second])[0] == {older: first}
    assert current_names([older], [first, second, 'panoptic_head.query_feat.weight'])[0] == {older: second}


def test_a_detector_of_swins_authors_loads_through_its_backbone():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = nn.Linear(1, 1)

        def convert_names(self, state):
            return {k.replace('layers', 'stage'): v for k, v in state.items()}

    model = nn.Module()
    model.backbone, model.neck = Backbone(), nn.Linear(1, 1)
    state = {k.replace('stage', 'layers'): torch.full_like(v, 7) for k, v in model.state_dict().items()}
    assert load_weights(model, state, 'swin.pth', strict=True).complete
    assert model.backbone.stage.weight.item() == model.neck.bias.item() == 7


# the background, which was class 0 before 2.0

def rcnn_1x(classes=3, stages=('',), masks=True, agnostic=False):
    """Heads of before 2.0, each row of which holds the number of its class: 0 is the background."""
    numbers = torch.arange(classes + 1.)
    state = {'rpn_head.rpn_cls.weight': torch.arange(3.)}
    for s in stages:
        boxes = torch.arange(4.) if agnostic else (numbers[:, None] + torch.tensor([0, .1, .2, .3])).flatten()
        state |= {f'bbox_head.{s}fc_cls.weight': numbers[:, None] * torch.ones(2), f'bbox_head.{s}fc_cls.bias': numbers,
                  f'bbox_head.{s}fc_reg.weight': boxes[:, None], f'bbox_head.{s}fc_reg.bias': boxes}
        if masks:
            state |= {f'mask_head.{s}conv_logits.weight': numbers[:, None, None, None],
                      f'mask_head.{s}conv_logits.bias': numbers, f'mask_head.{s}convs.0.conv.bias': torch.arange(4.)}
    return state | {'semantic_head.conv_logits.bias': torch.arange(183.)}


@pytest.mark.parametrize('stages', [('',), ('0.', '1.', '2.')])
def test_the_background_of_1x_becomes_the_last_class_without_box_and_mask(stages):
    state = rcnn_1x(stages=stages)
    got = background_last(state, {})
    for s in stages:
        assert got[f'bbox_head.{s}fc_cls.bias'].tolist() == [1, 2, 3, 0]
        assert got[f'bbox_head.{s}fc_cls.weight'].tolist() == [[1, 1], [2, 2], [3, 3], [0, 0]]
        assert got[f'bbox_head.{s}fc_reg.bias'].tolist() == pytest.approx(
            [1, 1.1, 1.2, 1.3, 2, 2.1, 2.2, 2.3, 3, 3.1, 3.2, 3.3])
        assert got[f'bbox_head.{s}fc_reg.weight'].shape == (12, 1)
        assert got[f'mask_head.{s}conv_logits.weight'].flatten().tolist() == [1, 2, 3]
        assert got[f'mask_head.{s}convs.0.conv.bias'].tolist() == [0, 1, 2, 3]
    assert got['semantic_head.conv_logits.bias'].shape == (183,)
    assert got['rpn_head.rpn_cls.weight'].tolist() == [0, 1, 2]
    assert state['bbox_head.' + stages[0] + 'fc_cls.bias'].tolist() == [0, 1, 2, 3]


def test_boxes_that_all_classes_share_stay():
    got = background_last(rcnn_1x(agnostic=True), {})
    assert got['bbox_head.fc_reg.bias'].tolist() == [0, 1, 2, 3]


def test_ssds_background_moves_within_each_anchor():
    classes, anchors = 3, 2
    rows = torch.cat([10 * a + torch.arange(classes + 1.) for a in range(anchors)])
    state = {'backbone.extra.0.weight': torch.ones(1), 'bbox_head.cls_convs.0.bias': rows,
             'bbox_head.reg_convs.0.bias': torch.arange(8.)}
    got = background_last(state, {'mmdet_version': '1.2.0+abc'})
    assert got['bbox_head.cls_convs.0.bias'].tolist() == [1, 2, 3, 0, 11, 12, 13, 10]
    assert got['bbox_head.reg_convs.0.bias'].tolist() == list(range(8))
    assert background_last(state, {'mmdet_version': '2.3.0'}) is None    # the same names, and already in today's order


def test_weights_of_today_and_heads_of_sigmoids_keep_their_order():
    today = {f'roi_head.{k}': v for k, v in rcnn_1x().items()}
    assert background_last(today, {'mmdet_version': '2.3.0'}) is None
    assert background_last(today, {'mmdet_version': '1.2.0'}) is None    # upgraded by MMDetection's own script
    assert background_last({'bbox_head.retina_cls.bias': torch.arange(9.)}, {'mmdet_version': '1.2.0'}) is None
    detr = {'bbox_head.fc_cls.bias': torch.arange(4.), 'bbox_head.fc_reg.bias': torch.arange(4.)}
    assert background_last(detr, {}) is None and background_last(detr, {'mmdet_version': '2.5.0'}) is None


def test_shapes_that_make_no_sense_are_left_alone():
    state = {'bbox_head.fc_cls.weight': torch.tensor(1.), 'bbox_head.fc_cls.bias': torch.ones(3),
             'bbox_head.fc_reg.bias': torch.ones(7)}
    assert background_last(state, {'mmdet_version': '1.0'})['bbox_head.fc_reg.bias'].shape == (7,)
    ssd = {'backbone.extra.0.bias': torch.ones(1), 'bbox_head.cls_convs.0.bias': torch.ones(7),
           'bbox_head.cls_convs.1.bias': torch.ones(7), 'bbox_head.reg_convs.1.bias': torch.ones(8)}
    assert background_last(ssd, {'mmdet_version': '1.0'}).keys() == ssd.keys()


def test_a_file_of_1x_is_read_in_todays_order_without_its_optimizer(tmp_path):
    torch.save({'state_dict': rcnn_1x(), 'optimizer': {'state': {}, 'param_groups': []},
                'meta': {'mmdet_version': '1.1.0', 'CLASSES': ('a', 'b', 'c')}}, tmp_path / 'old.pth')
    content = load_checkpoint(tmp_path / 'old.pth')
    assert content['state_dict']['bbox_head.fc_cls.bias'].tolist() == [1, 2, 3, 0]
    assert 'optimizer' not in content
