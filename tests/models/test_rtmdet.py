"""RTMDet's behaviour: sizes, padding, empty images, frozen stages, what a wrong config says."""

from __future__ import annotations

import copy

import pytest
import torch

import omnidet
from omnidet.errors import ConfigError
from omnidet.registry import BACKBONES, DENSE_HEADS, NECKS
from omnidet.structures import ImageMeta, Targets

HEAD = {'type': 'RTMDetSepBNHead', 'num_classes': 3, 'in_channels': 16, 'feat_channels': 16, 'stacked_convs': 1,
        'with_objectness': False, 'norm_cfg': {'type': 'BN'}}
MODEL = {
    'type': 'RTMDet',
    'backbone': {'type': 'CSPNeXt', 'deepen_factor': 0.01, 'widen_factor': 0.125},
    'neck': {'type': 'CSPNeXtPAFPN', 'in_channels': [32, 64, 128], 'out_channels': 16, 'num_csp_blocks': 1},
    'bbox_head': HEAD,
    'train_cfg': {'assigner': {'type': 'DynamicSoftLabelAssigner', 'topk': 13}, 'allowed_border': -1, 'pos_weight': -1},
    'test_cfg': {'nms_pre': 100, 'min_bbox_size': 0, 'score_thr': 0.001, 'nms': {'type': 'nms', 'iou_threshold': 0.65},
                 'max_per_img': 20},
}


def _model(**head):
    torch.manual_seed(0)
    return omnidet.build_model({'model': {**MODEL, 'bbox_head': {**HEAD, **head}}})


def _targets(*boxes, shape=(64, 64), size=(64, 64)):
    return Targets.collate([{'boxes': torch.tensor(b).reshape(-1, 4), 'labels': torch.zeros(len(b)), 'size': size}
                            for b in boxes], shape)


def _metas(n, size=(64, 64), **kw):
    return [ImageMeta(img_shape=size, ori_shape=size, **kw) for _ in range(n)]


HEADS = [{}, {'with_objectness': True, 'exp_on_reg': True}, {'share_conv': False, 'use_depthwise': True},
         {'type': 'RTMDetHead', 'with_objectness': True, 'norm_cfg': {'type': 'GN', 'num_groups': 4}}]


@pytest.mark.parametrize('head', HEADS)
def test_every_variant_trains_and_predicts_at_an_odd_size(head):
    head = {k: v for k, v in {**HEAD, **head}.items()}
    model = omnidet.build_model({**MODEL, 'bbox_head': head})
    losses = model.loss(torch.randn(2, 3, 96, 64), _targets([[4., 4., 40., 50.]], [], shape=(96, 64), size=(96, 64)))
    assert set(losses) == {'loss_cls', 'loss_bbox'} and all(v.ndim == 0 and v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    results = model.eval().predict(torch.randn(2, 3, 96, 64), _metas(2, (96, 64)))
    assert len(results) == 2 and all(len(r) <= 20 for r in results)


def test_an_image_without_objects_has_no_box_loss():
    losses = _model().loss(torch.randn(2, 3, 64, 64), _targets([], []))
    assert losses['loss_bbox'] == 0 and losses['loss_cls'] > 0


def test_losses_ignore_predictions_beyond_the_images_own_size():
    model = _model().eval()
    images = torch.randn(1, 3, 64, 64)
    feats = model.extract_feat(images)
    targets = _targets([[4., 4., 30., 30.]], size=(64, 32))
    want = model.bbox_head.loss(feats, targets)
    changed = [f.clone() for f in feats]
    for f in changed:
        f[..., f.shape[-1] // 2 + 1:] += 100    # right half: cells that begin outside the image
    head = copy.deepcopy(model.bbox_head)
    for tower in [*head.cls_convs, *head.reg_convs]:
        for conv in tower:
            conv.conv.weight.data[..., [0, 2]] = 0    # no view to the side, so that only outside cells change
    base, got = head.loss(feats, targets), head.loss(changed, targets)
    edge = [f.clone() for f in feats]
    for f in edge:
        f[..., : f.shape[-1] // 2] += 100
    assert want.keys() == got.keys()
    assert {k: v.item() for k, v in base.items()} == pytest.approx({k: v.item() for k, v in got.items()}, rel=1e-4)
    assert head.loss(edge, targets)['loss_cls'].item() != pytest.approx(base['loss_cls'].item(), rel=1e-2)


def test_detections_are_sorted_clipped_and_scaled_back():
    model = _model(exp_on_reg=True).eval()
    torch.nn.init.constant_(model.bbox_head.rtm_cls[0].bias, 2.0)
    images = torch.randn(1, 3, 64, 64)
    meta = _metas(1, (48, 64), scale_factor=(2.0, 0.5))
    scaled, plain = model.predict(images, meta)[0], model.predict(images, meta, rescale=False)[0]
    assert len(plain) == 20 and (plain.scores.diff() <= 0).all() and plain.scores.max() <= 1
    assert plain.boxes.min() >= 0 and plain.boxes[:, 2].max() <= 64 and plain.boxes[:, 3].max() <= 48
    assert scaled.boxes[:, 2].max() <= 32 and scaled.boxes[:, 3].max() <= 96 and scaled.boxes[:, 3].max() > 48


def test_a_high_threshold_leaves_nothing():
    model = omnidet.build_model({**MODEL, 'test_cfg': {**MODEL['test_cfg'], 'score_thr': 0.999}}).eval()
    result = model.predict(torch.randn(1, 3, 64, 64), _metas(1))[0]
    assert result.boxes.shape == (0, 4) and result.labels.dtype == torch.int64


def test_levels_share_convolutions_but_not_norms():
    head = _model().bbox_head
    first, second = head.cls_convs[0][0], head.cls_convs[1][0]
    assert first.conv is second.conv and first.bn is not second.bn
    apart = _model(share_conv=False).bbox_head
    assert apart.cls_convs[0][0].conv is not apart.cls_convs[1][0].conv


def test_frozen_stages_do_not_train_and_keep_their_statistics():
    backbone = BACKBONES.build({**MODEL['backbone'], 'frozen_stages': 1}).train()
    assert not any(p.requires_grad for p in [*backbone.stem.parameters(), *backbone.stage1.parameters()])
    assert all(p.requires_grad for p in backbone.stage2.parameters())
    before = backbone.stem[0].bn.running_mean.clone()
    later = backbone.stage2[0].bn.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))
    assert torch.equal(backbone.stem[0].bn.running_mean, before)
    assert not torch.equal(backbone.stage2[0].bn.running_mean, later)


def test_scores_begin_low():
    model = _model().eval()
    out = model.bbox_head(model.extract_feat(torch.randn(1, 3, 64, 64)))
    assert out['cls'].sigmoid().mean().item() == pytest.approx(0.01, abs=0.005)


def test_a_model_builds_on_the_meta_device_and_leaves_its_config_alone():
    cfg = copy.deepcopy(MODEL)
    with torch.device('meta'):
        model = omnidet.build_model(cfg)
    assert cfg == MODEL and all(p.is_meta for p in model.parameters())


def test_parts_are_told_the_progress_of_a_training():
    model, told = _model(), []
    model.bbox_head.loss_cls.set_progress = lambda epoch, iteration: told.append((epoch, iteration))
    model.set_progress(3, 200)
    assert told == [(3, 200)]


def test_a_training_step_compiles_in_one_graph():
    model = _model().eval()
    feats = model.extract_feat(torch.randn(2, 3, 64, 64))
    targets = _targets([[4., 4., 40., 50.]], [[1., 1., 20., 20.], [8., 8., 60., 30.]])
    step = torch.compile(model.bbox_head.loss, backend='aot_eager', fullgraph=True)
    got, want = step(feats, targets), model.bbox_head.loss(feats, targets)
    assert {k: v.item() for k, v in got.items()} == pytest.approx({k: v.item() for k, v in want.items()}, rel=1e-4)


@pytest.mark.parametrize(('build', 'cfg', 'says'), [
    (BACKBONES, {'type': 'CSPNeXt', 'arch': 'P7'}, 'arch'),
    (BACKBONES, {'type': 'CSPNeXt', 'out_indices': [2, 9]}, 'out_indices'),
    (BACKBONES, {'type': 'CSPNeXt', 'frozen_stages': 9}, 'frozen_stages'),
    (NECKS, {'type': 'CSPNeXtPAFPN', 'in_channels': [8, 16], 'out_chanels': 8}, 'out_channels'),
    (DENSE_HEADS, {**HEAD, 'test_cfg': {'score_thresh': 0.1}}, 'score_thr'),
    (DENSE_HEADS, {**HEAD, 'train_cfg': {'assigner': {'type': 'DynamicSoftLabelAsigner'}}}, 'DynamicSoftLabelAssigner'),
])
def test_wrong_configs_are_told(build, cfg, says):
    with pytest.raises(ConfigError, match=says):
        build.build(cfg)
