"""Models of 2.x configs in the form of 3.x: one small dict for each rule, and some that are built."""

from __future__ import annotations

from typing import Any

import pytest

from omnidet.config import load_config
from omnidet.config.nodes import ConfigDict
from omnidet.config.upgrade.changes import Changes
from omnidet.config.upgrade.model import upgrade_model
from omnidet.errors import ConfigError

RELU = dict(type='ReLU', inplace=True)
ENCODER = ('self_attn', 'norm', 'ffn', 'norm')
DECODER = ('self_attn', 'norm', 'cross_attn', 'norm', 'ffn', 'norm')


def upgraded(model: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The model in 3.x form, and where its changed entries were."""
    cfg, changes = ConfigDict(model), Changes()
    upgrade_model(cfg, changes)
    return cfg.to_dict(), [c.old for c in changes]


RULES = {
    'pretrained of the detector': (
        dict(type='ATSS', pretrained='torchvision://resnet50', backbone=dict(type='ResNet', depth=50)),
        dict(type='ATSS', backbone=dict(type='ResNet', depth=50, init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://resnet50')))),
    'pretrained of the detector before what the backbone inherits': (
        dict(type='ATSS', pretrained='open-mmlab://b', backbone=dict(type='ResNet', init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://a'))),
        dict(type='ATSS', backbone=dict(type='ResNet', init_cfg=dict(
            type='Pretrained', checkpoint='open-mmlab://b')))),
    'pretrained of the backbone': (
        dict(type='ATSS', backbone=dict(type='ResNet', pretrained='w.pth')),
        dict(type='ATSS', backbone=dict(type='ResNet', init_cfg=dict(type='Pretrained', checkpoint='w.pth')))),
    'pretrained that names nothing': (
        dict(type='ATSS', pretrained=None, backbone=dict(type='ResNet', pretrained=None)),
        dict(type='ATSS', backbone=dict(type='ResNet'))),
    'pretrained of timm is a switch': (
        dict(type='ATSS', backbone=dict(type='mmcls.TIMMBackbone', model_name='m', pretrained=True)),
        dict(type='ATSS', backbone=dict(type='mmpretrain.TIMMBackbone', model_name='m', pretrained=True))),
    "Swin of its authors' repository": (
        dict(type='MaskRCNN', pretrained='w.pth', backbone=dict(
            type='SwinTransformer', embed_dim=96, ape=False, use_checkpoint=True)),
        dict(type='MaskRCNN', backbone=dict(
            type='SwinTransformer', embed_dims=96, use_abs_pos_embed=False, with_cp=True, convert_weights=True,
            init_cfg=dict(type='Pretrained', checkpoint='w.pth')))),
    'where extra levels come from': (
        dict(type='ATSS', neck=dict(type='FPN', add_extra_convs=True, extra_convs_on_inputs=False)),
        dict(type='ATSS', neck=dict(type='FPN', add_extra_convs='on_output'))),
    "operators' first argument names": (
        dict(type='FastRCNN', roi_head=dict(bbox_roi_extractor=dict(
            roi_layer=dict(type='RoIAlign', out_size=7, sample_num=0))),
            test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms', iou_thr=0.5, min_score=0.05)))),
        dict(type='FastRCNN', roi_head=dict(bbox_roi_extractor=dict(
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0))),
            test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms', iou_threshold=0.5, min_score=0.05))))),
    'settings of proposals': (
        dict(type='FasterRCNN', rpn_head=dict(type='RPNHead'), train_cfg=dict(rpn_proposal=dict(
            nms_across_levels=False, nms_pre=2000, nms_post=2000, max_num=1000, nms_thr=0.7, min_bbox_size=0)),
            test_cfg=dict(rpn=dict(nms_pre=1000, nms_post=1000, max_num=500, nms_thr=0.6, min_bbox_size=0))),
        dict(type='FasterRCNN', rpn_head=dict(type='RPNHead'), train_cfg=dict(rpn_proposal=dict(
            nms_pre=2000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)),
            test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500, nms=dict(type='nms', iou_threshold=0.6),
                                   min_bbox_size=0)))),
    'settings of guided anchors stay': (
        dict(type='RPN', rpn_head=dict(type='GARPNHead'), test_cfg=dict(rpn=dict(nms_post=1000))),
        dict(type='RPN', rpn_head=dict(type='GARPNHead'), test_cfg=dict(rpn=dict(nms_post=1000)))),
    'a focal loss takes every anchor': (
        dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', loss_cls=dict(type='FocalLoss')), train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner'), sampler=dict(type='RandomSampler', num=256))),
        dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', loss_cls=dict(type='FocalLoss')), train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner'), sampler=dict(type='PseudoSampler')))),
    'a softmax does not': (
        dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', loss_cls=dict(type='CrossEntropyLoss')),
             train_cfg=dict(assigner=dict(type='MaxIoUAssigner'), sampler=dict(type='RandomSampler', num=256))),
        dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', loss_cls=dict(type='CrossEntropyLoss')),
             train_cfg=dict(assigner=dict(type='MaxIoUAssigner'), sampler=dict(type='RandomSampler', num=256)))),
    'an RPN samples': (
        dict(type='RPN', rpn_head=dict(type='RPNHead'), train_cfg=dict(rpn=dict(
            assigner=dict(type='MaxIoUAssigner'), sampler=dict(type='RandomSampler', num=256)))),
        dict(type='RPN', rpn_head=dict(type='RPNHead'), train_cfg=dict(rpn=dict(
            assigner=dict(type='MaxIoUAssigner'), sampler=dict(type='RandomSampler', num=256))))),
    'SSD with static shapes': (
        dict(type='SingleStageDetector', bbox_head=dict(type='AscendSSDHead'),
             train_cfg=dict(assigner=dict(type='AscendMaxIoUAssigner', pos_iou_thr=0.5))),
        dict(type='SingleStageDetector', bbox_head=dict(type='SSDHead'),
             train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5),
                            sampler=dict(type='PseudoSampler')))),
    'CenterNet': (
        dict(type='CenterNet', neck=dict(type='CTResNetNeck', in_channel=512),
             bbox_head=dict(type='CenterNetHead', in_channel=64, feat_channel=32)),
        dict(type='CenterNet', neck=dict(type='CTResNetNeck', in_channels=512),
             bbox_head=dict(type='CenterNetHead', in_channels=64, feat_channels=32))),
    'YOLOX': (
        dict(type='YOLOX', input_size=(640, 640), random_size_range=(10, 20), random_size_interval=5),
        dict(type='YOLOX', data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=32, batch_augments=[dict(
                type='BatchSyncRandomResize', random_size_range=(320, 640), size_divisor=32, interval=5)]))),
    'YOLOX by its defaults, 15 to 25 times 32 pixels': (
        dict(type='YOLOX', data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32)),
        dict(type='YOLOX', data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=32, batch_augments=[dict(
                type='BatchSyncRandomResize', random_size_range=(480, 800), size_divisor=32, interval=10)]))),
    'YOLOX over a base in 3.x form': (
        dict(type='YOLOX', random_size_range=(10, 20), data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=32, batch_augments=[dict(
                type='BatchSyncRandomResize', random_size_range=(480, 800), size_divisor=32, interval=1)])),
        dict(type='YOLOX', data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=32, batch_augments=[dict(
                type='BatchSyncRandomResize', random_size_range=(320, 640), size_divisor=32, interval=1)]))),
    'YOLACT': (
        dict(type='YOLACT', mask_head=dict(type='YOLACTProtonet', num_classes=3),
             segm_head=dict(type='YOLACTSegmHead', num_classes=3, loss_segm=dict(type='CrossEntropyLoss')),
             test_cfg=dict(iou_thr=0.5)),
        dict(type='YOLACT', mask_head=dict(type='YOLACTProtonet', num_classes=3, with_seg_branch=True,
                                           loss_segm=dict(type='CrossEntropyLoss')),
             test_cfg=dict(iou_thr=0.5, mask_thr=0.5, mask_thr_binary=0.5))),
    'Panoptic FPN': (
        dict(type='PanopticFPN', test_cfg=dict(rcnn=dict(score_thr=0.05, mask_thr_binary=0.5), panoptic=dict(
            score_thr=0.6, max_per_img=100, mask_thr_binary=0.4, mask_overlap=0.5, nms=dict(type='nms',
                                                                                            iou_threshold=0.5)))),
        dict(type='PanopticFPN', test_cfg=dict(
            rcnn=dict(score_thr=0.6, max_per_img=100, mask_thr_binary=0.4, nms=dict(type='nms', iou_threshold=0.5)),
            panoptic=dict(mask_overlap=0.5)))),
    'costs of a matching': (
        dict(type='SparseRCNN', train_cfg=dict(rcnn=[dict(assigner=dict(
            type='HungarianAssigner', reg_cost=dict(type='BBoxL1Cost', weight=5.0),
            cls_cost=dict(type='FocalLossCost', weight=2.0)))])),
        dict(type='SparseRCNN', train_cfg=dict(rcnn=[dict(assigner=dict(type='HungarianAssigner', match_costs=[
            dict(type='FocalLossCost', weight=2.0), dict(type='BBoxL1Cost', weight=5.0),
            dict(type='IoUCost', iou_mode='giou', weight=1.0)]))]))),
    'costs of a matching of masks': (
        dict(type='MaskFormer', train_cfg=dict(assigner=dict(
            type='MaskHungarianAssigner', dice_cost=dict(type='DiceCost', weight=3.0)))),
        dict(type='MaskFormer', train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=[
            dict(type='ClassificationCost', weight=1.0), dict(type='FocalLossCost', weight=1.0, binary_input=True),
            dict(type='DiceCost', weight=3.0)])))),
    'a cost over a base in 3.x form': (
        dict(type='DETR', train_cfg=dict(assigner=dict(
            type='HungarianAssigner', cls_cost=dict(type='ClassificationCost', weight=9.0),
            match_costs=[dict(type='ClassificationCost', weight=1.0), dict(type='BBoxL1Cost', weight=5.0)]))),
        dict(type='DETR', train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=[
            dict(type='ClassificationCost', weight=9.0), dict(type='BBoxL1Cost', weight=5.0)])))),
}


@pytest.mark.parametrize('rule', RULES)
def test_a_model_gets_the_form_of_3x(rule: str) -> None:
    old, new = RULES[rule]
    assert upgraded(old)[0] == new


@pytest.mark.parametrize('rule', RULES)
def test_what_is_in_3x_form_stays(rule: str) -> None:
    new = RULES[rule][1]
    again, changes = upgraded(new)
    assert again == new and changes == []


def detr_head() -> dict[str, Any]:
    def attention(**more: Any) -> dict[str, Any]:
        return dict(type='MultiheadAttention', embed_dims=32, num_heads=4, **more)
    return dict(type='DETRHead', num_classes=3, in_channels=512, num_query=7, transformer=dict(
        type='Transformer',
        encoder=dict(type='DetrTransformerEncoder', num_layers=2, transformerlayers=dict(
            type='BaseTransformerLayer', attn_cfgs=[attention(dropout=0.1)], feedforward_channels=64, ffn_dropout=0.2,
            operation_order=ENCODER)),
        decoder=dict(type='DetrTransformerDecoder', num_layers=3, return_intermediate=True, transformerlayers=dict(
            type='DetrTransformerDecoderLayer', attn_cfgs=attention(attn_drop=0.3, proj_drop=0.3, dropout_layer=None),
            ffn_cfgs=dict(type='FFN', embed_dims=32, feedforward_channels=64, act_cfg=RELU, add_identity=True),
            operation_order=DECODER))),
        positional_encoding=dict(type='SinePositionalEncoding', num_feats=16, normalize=True))


def test_the_transformer_of_a_detr_head_becomes_the_detectors() -> None:
    new, changes = upgraded(dict(type='DETR', bbox_head=detr_head()))
    attention = dict(embed_dims=32, num_heads=4, batch_first=True)
    assert new == dict(
        type='DETR', num_queries=7,
        neck=dict(type='ChannelMapper', in_channels=[512], kernel_size=1, out_channels=32, norm_cfg=None,
                  act_cfg=None, num_outs=1),
        encoder=dict(num_layers=2, layer_cfg=dict(
            self_attn_cfg=dict(attention, dropout=0.1),
            ffn_cfg=dict(embed_dims=32, feedforward_channels=64, ffn_drop=0.2))),
        decoder=dict(num_layers=3, return_intermediate=True, layer_cfg=dict(
            self_attn_cfg=dict(attention, dropout=0.3), cross_attn_cfg=dict(attention, dropout=0.3),
            ffn_cfg=dict(embed_dims=32, feedforward_channels=64, act_cfg=RELU))),
        positional_encoding=dict(num_feats=16, normalize=True),
        bbox_head=dict(type='DETRHead', num_classes=3, embed_dims=32))
    assert 'model.bbox_head.num_query' in changes and 'model.bbox_head.transformer' in changes


def test_a_neck_of_a_detr_stays_before_the_projection() -> None:
    neck = dict(type='FPN', out_channels=64)
    new, _ = upgraded(dict(type='DETR', neck=neck, bbox_head=detr_head()))
    assert new['neck'][0] == neck and new['neck'][1]['type'] == 'ChannelMapper'


def deformable_head(**more: Any) -> dict[str, Any]:
    deformable = dict(type='MultiScaleDeformableAttention', embed_dims=32, num_levels=2)
    return dict(type='DeformableDETRHead', num_query=9, num_classes=3, in_channels=2048, with_box_refine=True,
                transformer=dict(
                    type='DeformableDetrTransformer', num_feature_levels=2, **more,
                    encoder=dict(type='DetrTransformerEncoder', num_layers=1, transformerlayers=dict(
                        type='BaseTransformerLayer', attn_cfgs=deformable, feedforward_channels=64, ffn_dropout=0.1,
                        operation_order=ENCODER)),
                    decoder=dict(type='DeformableDetrTransformerDecoder', num_layers=2, transformerlayers=dict(
                        type='DetrTransformerDecoderLayer', feedforward_channels=64, ffn_dropout=0.1, attn_cfgs=[
                            dict(type='MultiheadAttention', embed_dims=32, num_heads=8, dropout=0.1), deformable],
                        operation_order=DECODER))),
                positional_encoding=dict(type='SinePositionalEncoding', num_feats=16, offset=-0.5))


def test_a_deformable_detr_has_attentions_of_both_kinds() -> None:
    new, _ = upgraded(dict(type='DeformableDETR', bbox_head=deformable_head()))
    across, ffn = dict(embed_dims=32, num_levels=2, batch_first=True), dict(embed_dims=32, feedforward_channels=64,
                                                                            ffn_drop=0.1)
    assert new == dict(
        type='DeformableDETR', num_queries=9, num_feature_levels=2, with_box_refine=True,
        encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=across, ffn_cfg=ffn)),
        decoder=dict(num_layers=2, post_norm_cfg=None, layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=32, num_heads=8, dropout=0.1, batch_first=True), cross_attn_cfg=across,
            ffn_cfg=ffn)),
        positional_encoding=dict(num_feats=16, offset=-0.5),
        bbox_head=dict(type='DeformableDETRHead', num_classes=3, embed_dims=32))


def masked_head(order: tuple[str, ...]) -> dict[str, Any]:
    sine = dict(type='SinePositionalEncoding', num_feats=16, normalize=True)
    return dict(type='Mask2FormerHead', num_things_classes=3, pixel_decoder=dict(
        type='MSDeformAttnPixelDecoder', positional_encoding=sine, encoder=dict(
            type='DetrTransformerEncoder', num_layers=1, init_cfg=None, transformerlayers=dict(
                type='BaseTransformerLayer', operation_order=ENCODER,
                attn_cfgs=dict(type='MultiScaleDeformableAttention', embed_dims=32, num_levels=3, im2col_step=64,
                               dropout=0.0, batch_first=False, norm_cfg=None, init_cfg=None),
                ffn_cfgs=dict(type='FFN', embed_dims=32, feedforward_channels=64, ffn_drop=0.0)))),
        positional_encoding=sine, transformer_decoder=dict(
            type='DetrTransformerDecoder', num_layers=2, transformerlayers=dict(
                type='DetrTransformerDecoderLayer', operation_order=order,
                attn_cfgs=dict(type='MultiheadAttention', embed_dims=32, attn_drop=0.0, proj_drop=0.0),
                ffn_cfgs=dict(embed_dims=32, feedforward_channels=64))))


def test_a_masked_transformer_keeps_its_place_and_changes_its_form() -> None:
    new, _ = upgraded(dict(type='Mask2Former', panoptic_head=masked_head(
        ('cross_attn', 'norm', 'self_attn', 'norm', 'ffn', 'norm'))))
    sine, attention = dict(num_feats=16, normalize=True), dict(embed_dims=32, dropout=0.0, batch_first=True)
    assert new['panoptic_head'] == dict(
        type='Mask2FormerHead', num_things_classes=3, positional_encoding=sine,
        pixel_decoder=dict(type='MSDeformAttnPixelDecoder', positional_encoding=sine, encoder=dict(
            num_layers=1, layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=32, num_levels=3, dropout=0.0, batch_first=True),
                ffn_cfg=dict(embed_dims=32, feedforward_channels=64, ffn_drop=0.0)))),
        transformer_decoder=dict(num_layers=2, layer_cfg=dict(
            self_attn_cfg=attention, cross_attn_cfg=attention,
            ffn_cfg=dict(embed_dims=32, feedforward_channels=64))))


def test_a_layer_that_3x_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'transformer_decoder\.transformerlayers\.operation_order: .*has no equal'):
        upgraded(dict(type='Mask2Former', panoptic_head=masked_head(DECODER)))
    with pytest.raises(ConfigError, match=r'positional_encoding: .LearnedPositionalEncoding. has no equal'):
        upgraded(dict(type='DETR', bbox_head=dict(detr_head(), positional_encoding=dict(
            type='LearnedPositionalEncoding', num_feats=16))))
    with pytest.raises(ConfigError, match='5 proposals for 9 queries'):
        upgraded(dict(type='DeformableDETR', bbox_head=dict(deformable_head(two_stage_num_proposals=5),
                                                            as_two_stage=True)))


# ---- built ----

def layout(model: Any) -> dict[str, tuple[int, ...]]:
    import torch

    from omnidet import build_model
    with torch.device('meta'):
        return {k: tuple(v.shape) for k, v in build_model(model).state_dict().items()}


def in_old_form(model: ConfigDict) -> ConfigDict:
    """A DETR's parts of 3.x put back where 2.x had them, by hand and not by the upgrade's own tables."""
    def attention(cfg: Any, kind: str) -> dict[str, Any]:
        return dict(cfg, type=kind, batch_first=False)
    deformable = model.type == 'DeformableDETR'
    kind = 'MultiScaleDeformableAttention' if deformable else 'MultiheadAttention'
    encoder, decoder = model.pop('encoder'), model.pop('decoder')
    inner = encoder.layer_cfg
    outer = decoder.layer_cfg
    head = model.bbox_head
    head['transformer'] = dict(
        encoder=dict(num_layers=encoder.num_layers, transformerlayers=dict(
            attn_cfgs=attention(inner.self_attn_cfg, kind), ffn_cfgs=inner.ffn_cfg, operation_order=ENCODER)),
        decoder=dict(num_layers=decoder.num_layers, transformerlayers=dict(
            attn_cfgs=[attention(outer.self_attn_cfg, 'MultiheadAttention'), attention(outer.cross_attn_cfg, kind)],
            ffn_cfgs=outer.ffn_cfg, operation_order=DECODER)))
    head['num_query'] = model.pop('num_queries')
    head['positional_encoding'] = dict(model.pop('positional_encoding'), type='SinePositionalEncoding')
    head['in_channels'] = 2048
    head.pop('embed_dims', None)
    for key in ('with_box_refine', 'as_two_stage'):
        if key in model:
            head[key] = model.pop(key)
    if not deformable:
        del model['neck']
    return model


@pytest.mark.parametrize('name', ['detr/detr_r50_8xb2-150e_coco', 'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
                                  'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco'])
def test_an_upgraded_transformer_has_the_parameters_of_its_twin(name: str) -> None:
    want = layout(load_config(name).model)
    old = in_old_form(load_config(name).model)
    assert not {'encoder', 'decoder', 'num_queries'} & set(old)
    upgrade_model(old, Changes())
    assert layout(old) == want


def test_an_upgraded_centernet_has_the_parameters_of_its_twin() -> None:
    name = 'centernet/centernet_r18_8xb16-crop512-140e_coco'
    old = load_config(name).model
    for part, keys in ((old.neck, ('in_channels',)), (old.bbox_head, ('in_channels', 'feat_channels'))):
        for key in keys:
            part[key.removesuffix('s')] = part.pop(key)
    old['pretrained'] = old.backbone.pop('init_cfg').checkpoint
    upgrade_model(old, Changes())
    assert old == load_config(name).model
    assert layout(old) == layout(load_config(name).model)
