"""Detectors of two stages: batches, padding, empty images, crowds, masks, cascades."""

from __future__ import annotations

import copy

import pytest
import torch

import omnidet
from omnidet.errors import ConfigError, DatasetError
from omnidet.models.roi_heads.driver import RoIHead
from omnidet.structures import ImageMeta, Proposals, Targets

K, SIZE = 3, (96, 128)


def _stage(std, agnostic=False):
    return {'type': 'Shared2FCBBoxHead', 'in_channels': 8, 'fc_out_channels': 16, 'roi_feat_size': 3, 'num_classes': K,
            'reg_class_agnostic': agnostic, 'loss_bbox': {'type': 'L1Loss'},
            'bbox_coder': {'type': 'DeltaXYWHBBoxCoder', 'target_means': [0.] * 4, 'target_stds': [std] * 4}}


def _extractor(size):
    return {'type': 'SingleRoIExtractor', 'out_channels': 8, 'featmap_strides': [8, 16],
            'roi_layer': {'type': 'RoIAlign', 'output_size': size, 'sampling_ratio': 0}}


MASK_HEAD = {'type': 'FCNMaskHead', 'num_convs': 1, 'in_channels': 8, 'conv_out_channels': 8, 'num_classes': K}
RPN = {'type': 'RPNHead', 'in_channels': 8, 'feat_channels': 8, 'loss_bbox': {'type': 'L1Loss'}, 'anchor_generator': {
    'type': 'AnchorGenerator', 'scales': [4], 'ratios': [0.5, 1.0, 2.0], 'strides': [8, 16]}}
NMS = {'type': 'nms', 'iou_threshold': 0.7}


def _rcnn(iou=0.5):
    return {'assigner': {'type': 'MaxIoUAssigner', 'pos_iou_thr': iou, 'neg_iou_thr': iou, 'min_pos_iou': iou,
                         'match_low_quality': False, 'ignore_iof_thr': 0.5},
            'sampler': {'type': 'RandomSampler', 'num': 10 ** 6, 'pos_fraction': 0.25, 'add_gt_as_proposals': True},
            'mask_size': 8, 'pos_weight': -1, 'debug': False}


MODEL = {
    'type': 'FasterRCNN',
    'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'num_stages': 3, 'strides': (1, 2, 2),
                 'dilations': (1, 1, 1), 'out_indices': (1, 2), 'norm_eval': True},
    'neck': {'type': 'FPN', 'in_channels': [8, 16], 'out_channels': 8, 'num_outs': 2},
    'rpn_head': RPN,
    'roi_head': {'type': 'StandardRoIHead', 'bbox_roi_extractor': _extractor(3), 'bbox_head': _stage(0.1)},
    'train_cfg': {
        'rpn': {'assigner': {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.7, 'neg_iou_thr': 0.3, 'min_pos_iou': 0.3,
                             'match_low_quality': True, 'ignore_iof_thr': -1},
                'sampler': {'type': 'RandomSampler', 'num': 10 ** 6, 'pos_fraction': 0.5, 'add_gt_as_proposals': False},
                'allowed_border': -1, 'pos_weight': -1, 'debug': False},
        'rpn_proposal': {'nms_pre': 100, 'max_per_img': 40, 'nms': NMS, 'min_bbox_size': 0}, 'rcnn': _rcnn()},
    'test_cfg': {'rpn': {'nms_pre': 100, 'max_per_img': 30, 'nms': NMS, 'min_bbox_size': 0},
                 'rcnn': {'score_thr': 0.05, 'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 10,
                          'mask_thr_binary': 0.5}},
}


def _cfg(masks=False, cascade=False, **kw):
    cfg = copy.deepcopy(MODEL)
    cfg.update(kw)
    roi = cfg['roi_head']
    if masks:
        roi.update(mask_roi_extractor=_extractor(4), mask_head=MASK_HEAD)
    if cascade:
        roi.update(type='CascadeRoIHead', num_stages=3, stage_loss_weights=[1, 0.5, 0.25],
                   bbox_head=[_stage(s, agnostic=True) for s in (0.1, 0.05, 0.033)])
        cfg['train_cfg']['rcnn'] = [_rcnn(t) for t in (0.5, 0.6, 0.7)]
    return cfg


def _model(masks=False, cascade=False, **kw):
    torch.manual_seed(0)
    model = omnidet.build_model({'model': _cfg(masks, cascade, **kw)})
    for name, p in model.named_parameters():    # scores that differ and boxes that move
        if 'fc_cls' in name or 'fc_reg' in name or 'rpn_' in name:
            torch.nn.init.normal_(p, 0, 0.3)
    return model


def _images(n=2):
    return torch.randn(n, 3, *SIZE, generator=torch.Generator().manual_seed(3))


def _boxes(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * torch.tensor([80., 60.])
    return torch.cat([corner, corner + 6 + torch.rand(n, 2, generator=g) * 28], 1)


def _item(boxes, labels=None, masks=False, size=SIZE, **more):
    boxes = torch.as_tensor(boxes).float().reshape(-1, 4)
    item = {'boxes': boxes, 'labels': torch.arange(len(boxes)) % K if labels is None else labels, 'size': size, **more}
    if masks:
        item['masks'] = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
        for m, (x1, y1, x2, y2) in zip(item['masks'], boxes.round().int().tolist(), strict=True):
            m[y1:max(y2, y1 + 1), x1:max(x2, x1 + 1)] = True
    return item


def _targets(*items):
    return Targets.collate(items, SIZE)


def _metas(n, size=SIZE, **kw):
    return [ImageMeta(img_shape=size, ori_shape=size, **kw) for _ in range(n)]


def _proposals(*boxes):
    R = max(len(b) for b in boxes)
    out = torch.zeros(len(boxes), R, 4)
    valid = torch.zeros(len(boxes), R, dtype=torch.bool)
    for i, b in enumerate(boxes):
        out[i, :len(b)], valid[i, :len(b)] = b, True
    return Proposals(out, valid, valid.float())


KINDS = [{}, {'masks': True}, {'cascade': True}, {'masks': True, 'cascade': True}]


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_trains_and_predicts(kind):
    model, masks = _model(**kind).train(), kind.get('masks', False)
    losses = model.loss(_images(), _targets(_item(_boxes(4), masks=masks), _item(_boxes(1, 2), masks=masks)))
    own = ['loss_cls', 'acc', 'loss_bbox'] + ['loss_mask'] * masks
    own = [f's{i}.{n}' for i in range(3) for n in own] if kind.get('cascade') else own
    assert set(losses) == {'loss_rpn_cls', 'loss_rpn_bbox', *own}
    assert all(v.ndim == 0 and v.isfinite() for v in losses.values())
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    results = model.eval().predict(_images(), _metas(2))
    assert [len(r) for r in results] == [10, 10]
    for r in results:
        assert (r.scores.diff() <= 0).all() and r.labels.max() < K
        assert (r.masks is not None) == masks and (not masks or r.masks.shape == (10, *SIZE))


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_predictions_of_a_batch_are_those_of_its_images(kind):
    model = _model(**kind).eval()
    metas = [ImageMeta(img_shape=(96, 128), ori_shape=(48, 64), scale_factor=(2., 2.)),
             ImageMeta(img_shape=(70, 90), ori_shape=(70, 90))]
    both = model.predict(_images(), metas)
    for i in range(2):
        alone = model.predict(_images()[i:i + 1], metas[i:i + 1])[0]
        assert torch.equal(alone.labels, both[i].labels)
        assert torch.allclose(alone.boxes, both[i].boxes, atol=1e-3)
        h, w = metas[i].ori_shape
        assert both[i].boxes[:, 2].max() <= w + 1e-4 and both[i].boxes[:, 3].max() <= h + 1e-4
        if kind.get('masks'):
            assert both[i].masks.shape[1:] == (h, w)
            assert (alone.masks != both[i].masks).float().mean() < 1e-3


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_losses_of_a_batch_are_the_means_of_its_images(kind):
    """Whatever an image's number of proposals and objects: padding changes nothing."""
    head, masks = _model(**kind).roi_head, kind.get('masks', False)
    feats = [torch.randn(2, 8, 12, 16), torch.randn(2, 8, 6, 8)]
    items = [_item(_boxes(5, 1), masks=masks), _item(_boxes(2, 5), masks=masks)]
    boxes = [torch.cat([_boxes(5, 1) + 1.5, _boxes(20, 2)]), torch.cat([_boxes(2, 5) - 1, _boxes(7, 4)])]
    both = head.loss(feats, _proposals(*boxes), _targets(*items))
    parts = [head.loss([f[i:i + 1] for f in feats], _proposals(boxes[i]), _targets(items[i])) for i in range(2)]
    rois = [len(b) + len(t['boxes']) for b, t in zip(boxes, items, strict=True)]
    for name, value in both.items():
        if 'mask' not in name:    # which is the mean over instances, not RoIs
            want = sum(n * p[name] for n, p in zip(rois, parts, strict=True)) / sum(rois)
            assert value.item() == pytest.approx(want.item(), rel=1e-4)
        else:
            low, high = sorted(p[name].item() for p in parts)
            assert low <= value.item() <= high


@pytest.mark.parametrize('kind', KINDS)
def test_images_without_objects_have_class_losses_alone(kind):
    model, masks = _model(**kind), kind.get('masks', False)
    losses = model.loss(_images(), _targets(_item([], masks=masks), _item([], masks=masks)))
    for name, value in losses.items():
        assert value == 0 if 'bbox' in name or 'mask' in name else value.isfinite()
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_one_pixel_objects_many_objects_and_crowds_have_finite_losses():
    model = _model(masks=True)
    crowd = torch.tensor([True] + [False] * 3)
    for item in (_item([[40., 40., 41., 41.]], masks=True), _item(_boxes(500), masks=True),
                 _item(torch.cat([torch.tensor([[0., 0., 128., 96.]]), _boxes(3)]), masks=True, ignore=crowd),
                 _item([[7., 7., 7., 7.]], masks=True)):
        losses = model.loss(_images(), _targets(item, _item(_boxes(2), masks=True)))
        assert all(v.isfinite() for v in losses.values())
        model.zero_grad()
        sum(v for k, v in losses.items() if 'loss' in k).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_proposals_in_a_crowd_cost_nothing():
    head = _model().roi_head
    feats = [torch.randn(1, 8, 12, 16), torch.randn(1, 8, 6, 8)]
    inside, outside = torch.tensor([[10., 10., 30., 30.]]), torch.tensor([[70., 50., 110., 90.]])
    crowd = _item([[0., 0., 50., 50.]], ignore=torch.tensor([True]))
    with_it = head.loss(feats, _proposals(torch.cat([inside, outside])), _targets(crowd))
    without = head.loss(feats, _proposals(outside), _targets(crowd))
    assert with_it['loss_cls'].item() == pytest.approx(without['loss_cls'].item())


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_without_proposals_there_is_nothing(kind):
    head = _model(**kind).roi_head.eval()
    feats = [torch.randn(2, 8, 12, 16), torch.randn(2, 8, 6, 8)]
    none = Proposals(torch.zeros(2, 4, 4), torch.zeros(2, 4, dtype=torch.bool), torch.zeros(2, 4))
    one = none._replace(boxes=torch.tensor([0., 0., 60., 60.]).expand(2, 4, 4),
                        valid=torch.tensor([[True] * 4, [False] * 4]))
    for proposals, some in ((none, False), (one, True)):
        results = head.predict(feats, proposals, _metas(2))
        assert (len(results[0]) > 0) == some and len(results[1]) == 0
        assert results[1].boxes.shape == (0, 4) and results[1].labels.dtype == torch.int64
        assert not kind.get('masks') or results[1].masks.shape == (0, *SIZE)


@torch.no_grad()
def test_a_high_threshold_leaves_nothing():
    test_cfg = {**MODEL['test_cfg'], 'rcnn': {**MODEL['test_cfg']['rcnn'], 'score_thr': 1.0}}
    results = _model(masks=True, test_cfg=test_cfg).eval().predict(_images(), _metas(2))
    assert [r.masks.shape for r in results] == [(0, *SIZE)] * 2


@torch.no_grad()
def test_boxes_are_scaled_back_and_else_lie_in_the_batch():
    model = _model(masks=True).eval()
    meta = ImageMeta(img_shape=SIZE, ori_shape=(48, 256), scale_factor=(0.5, 2.0))
    plain, scaled = model.predict(_images(1), [meta], rescale=False)[0], model.predict(_images(1), [meta])[0]
    assert torch.allclose(scaled.boxes, plain.boxes * torch.tensor([2., 0.5, 2., 0.5]), atol=1e-3)
    assert plain.masks.shape[1:] == SIZE and scaled.masks.shape[1:] == (48, 256)
    wide = scaled.masks.flatten(1).float().mean(1)
    assert torch.allclose(wide, plain.masks.flatten(1).float().mean(1), atol=0.02)    # the same part of either image


@torch.no_grad()
def test_a_cascade_averages_the_logits_of_its_stages():
    model = _model(cascade=True).eval()
    for i, head in enumerate(model.roi_head.bbox_head):
        head.fc_cls.weight.zero_()
        head.fc_cls.bias.copy_(torch.tensor([[3., 0., 0., 0.], [0., 6., 0., 0.], [0., 0., 0., 1.]][i]))
    result = model.predict(_images(1), _metas(1))[0]
    want = torch.tensor([1., 2., 0., 1 / 3]).softmax(0)
    scores = result.scores[result.labels == 1]
    assert len(scores) > 0 and torch.allclose(scores, want[1].expand_as(scores))


def test_a_cascade_goes_on_from_refined_boxes_without_the_objects_own(monkeypatch):
    model = _model(cascade=True)
    seen = []
    draw = RoIHead.draw

    def spy(self, stage, feats, boxes, valid, targets):
        drawn = draw(self, stage, feats, boxes, valid, targets)
        seen.append((boxes[valid], drawn))
        return drawn
    monkeypatch.setattr(RoIHead, 'draw', spy)
    for head in model.roi_head.bbox_head:    # shifts by a tenth of the width, whatever is seen
        torch.nn.init.zeros_(head.fc_reg.weight)
        head.fc_reg.bias.data = torch.tensor([0.1, 0., 0., 0.]) / torch.tensor(head.coder.target_stds)
    boxes = _boxes(20, 2)
    model.roi_head.loss([torch.randn(1, 8, 12, 16), torch.randn(1, 8, 6, 8)], _proposals(boxes),
                        _targets(_item(_boxes(3))))
    shifted = boxes.clone()
    for proposals, drawn in seen:
        assert len(proposals) == 20 and drawn.given.sum() == 3
        assert torch.allclose(proposals.sort(0).values, shifted.sort(0).values, atol=1e-3)
        assert not proposals.requires_grad
        shifted[:, 0::2] += 0.1 * (shifted[:, 2:3] - shifted[:, 0:1])
        shifted[:, 0::2] = shifted[:, 0::2].clamp(max=SIZE[1])


@torch.no_grad()
def test_stages_of_a_cascade_are_weighted():
    feats = [torch.randn(1, 8, 12, 16), torch.randn(1, 8, 6, 8)]
    once, again = _model(cascade=True).roi_head, _model(cascade=True).roi_head
    again.stage_loss_weights = (1, 1, 1)
    args = (feats, _proposals(_boxes(20, 2)), _targets(_item(_boxes(3))))
    a, b = once.loss(*args), again.loss(*args)
    assert a['s2.loss_cls'].item() == pytest.approx(0.25 * b['s2.loss_cls'].item())
    assert a['s2.acc'] == b['s2.acc'] and a['s0.loss_bbox'] == b['s0.loss_bbox']


def test_fast_rcnn_is_handed_its_proposals():
    cfg = {k: v for k, v in _cfg(type='FastRCNN').items() if k != 'rpn_head'}
    model = omnidet.build_model({'model': cfg})
    items = [_item(_boxes(2), proposals=_boxes(9, 1)), _item(_boxes(1), proposals=_boxes(4, 2))]
    assert set(model.loss(_images(), _targets(*items))) == {'loss_cls', 'acc', 'loss_bbox'}
    metas = [ImageMeta(SIZE, SIZE, proposals=_boxes(9, 1)), ImageMeta(SIZE, SIZE, proposals=_boxes(0))]
    model.eval()
    torch.nn.init.normal_(model.roi_head.bbox_head.fc_cls.weight)
    with torch.no_grad():
        results = model.predict(_images(), metas)
    assert len(results[0]) > 0 and len(results[1]) == 0
    with pytest.raises(DatasetError, match='LoadProposals'):
        model.loss(_images(), _targets(_item(_boxes(2)), _item([])))
    with pytest.raises(DatasetError, match=r'cat\.jpg.*proposal_file'):
        model.predict(_images(1), _metas(1, img_path='cat.jpg'))


def test_any_dense_head_can_propose_for_one_class():
    retina = {'type': 'RetinaHead', 'num_classes': 80, 'in_channels': 8, 'feat_channels': 8, 'stacked_convs': 1,
              'anchor_generator': RPN['anchor_generator'],
              'bbox_coder': {'type': 'DeltaXYWHBBoxCoder'}, 'loss_bbox': {'type': 'L1Loss'}}
    rpn = {**MODEL['test_cfg']['rpn'], 'score_thr': 0.0}
    model = omnidet.build_model({'model': _cfg(rpn_head=retina, test_cfg={**MODEL['test_cfg'], 'rpn': rpn})})
    assert model.rpn_head.num_classes == 1 and retina['num_classes'] == 80
    losses = model.loss(_images(), _targets(_item(_boxes(2), labels=torch.tensor([2, 1])), _item(_boxes(1))))
    assert set(losses) == {'rpn_loss_cls', 'rpn_loss_bbox', 'loss_cls', 'acc', 'loss_bbox'}


def test_a_shared_head_stands_between_the_features_and_both_heads():
    cfg = _cfg()
    shared = {'type': 'ResLayer', 'depth': 18, 'stage': 1, 'stride': 2, 'norm_eval': True,
              'norm_cfg': {'type': 'BN', 'requires_grad': False}}
    cfg['backbone'] = {'type': 'ResNet', 'depth': 18, 'num_stages': 1, 'strides': (1,), 'dilations': (1,),
                       'out_indices': (0,)}
    cfg['neck'] = None
    cfg['rpn_head'] = {**RPN, 'in_channels': 64, 'anchor_generator': {**RPN['anchor_generator'], 'strides': [4]}}
    cfg['roi_head'] = {
        'type': 'StandardRoIHead', 'shared_head': shared,
        'bbox_roi_extractor': {**_extractor(6), 'featmap_strides': [4], 'out_channels': 64},
        'bbox_head': {'type': 'BBoxHead', 'with_avg_pool': True, 'in_channels': 128, 'num_classes': K},
        'mask_roi_extractor': None, 'mask_head': {**MASK_HEAD, 'num_convs': 0, 'in_channels': 128}}
    cfg['train_cfg']['rcnn']['mask_size'] = 6
    model = omnidet.build_model({'model': cfg}).train()
    assert 'roi_head.shared_head.layer2.0.conv1.weight' in model.state_dict()
    norms = [m for m in model.roi_head.shared_head.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(m.training or m.weight.requires_grad for m in norms)
    losses = model.loss(_images(), _targets(_item(_boxes(2), masks=True), _item([], masks=True)))
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert model.roi_head.shared_head.layer2[0].conv1.weight.grad.any()
    torch.nn.init.normal_(model.roi_head.bbox_head.fc_cls.weight)
    with torch.no_grad():
        result = model.eval().predict(_images(1), _metas(1))[0]
    assert len(result) and result.masks.shape[1:] == SIZE


def test_a_sampler_that_mines_hard_examples_sees_the_losses():
    cfg = _cfg()
    cfg['train_cfg']['rcnn']['sampler'] = {'type': 'OHEMSampler', 'num': 16, 'pos_fraction': 0.25}
    torch.manual_seed(0)
    hard = omnidet.build_model({'model': cfg})
    cfg['train_cfg']['rcnn']['sampler']['num'] = 10 ** 6
    torch.manual_seed(0)
    every = omnidet.build_model({'model': cfg})
    targets = _targets(_item(_boxes(3)), _item(_boxes(2, 4)))
    assert hard.loss(_images(), targets)['loss_cls'] > every.loss(_images(), targets)['loss_cls']


def test_a_config_is_left_alone_and_builds_on_the_meta_device():
    cfg = _cfg(masks=True, cascade=True)
    before = copy.deepcopy(cfg)
    with torch.device('meta'):
        model = omnidet.build_model({'model': cfg})
    assert cfg == before and all(p.is_meta for p in model.parameters())


def test_masks_are_asked_of_the_data():
    with pytest.raises(ConfigError, match='with_mask=True'):
        _model(masks=True).loss(_images(), _targets(_item(_boxes(2)), _item(_boxes(2))))


@pytest.mark.parametrize(('change', 'says'), [
    (lambda c: c['test_cfg']['rcnn'].update(score_thresh=0.1), 'score_thr'),
    (lambda c: c['test_cfg']['rcnn'].update(nms={'iou_threshold': 0.5}), 'rcnn.nms needs a type'),
    (lambda c: c['train_cfg'].update(rpn_proposals={}), 'rpn_proposal'),
    (lambda c: c['train_cfg']['rcnn'].update(mask_sizes=28), 'mask_size'),
    (lambda c: c.update(roi_head=None), 'needs a roi_head'),
    (lambda c: c['roi_head'].update(type='CascadeRoIHead', num_stages=2, stage_loss_weights=[1]), 'stage_loss_weights'),
    (lambda c: c['roi_head'].update(type='CascadeRoIHead', num_stages=2, stage_loss_weights=[1, 1],
                                    bbox_head=[_stage(0.1)] * 3), 'bbox_head describes 3 stages; there are 2'),
    (lambda c: c['roi_head'].pop('bbox_head'), 'RoI head'),
])
def test_wrong_configs_are_told(change, says):
    cfg = _cfg()
    change(cfg)
    with pytest.raises(ConfigError, match=says):
        omnidet.build_model({'model': cfg})


def test_a_head_without_train_cfg_says_so():
    with pytest.raises(ConfigError, match='train_cfg'):
        model = omnidet.build_model({'model': _cfg(train_cfg={'rpn': MODEL['train_cfg']['rpn']})})
        model.loss(_images(), _targets(_item(_boxes(2)), _item([])))


@pytest.mark.parametrize('kind', KINDS)
def test_losses_in_bfloat16_are_near_those_in_float32(kind):
    model, masks = _model(**kind), kind.get('masks', False)
    targets = _targets(_item(_boxes(3), masks=masks), _item(_boxes(2, 4), masks=masks))
    boxes = _proposals(torch.cat([_boxes(3) + 1, _boxes(20, 2)]), _boxes(15, 4) + 1)
    feats = [torch.randn(2, 8, 12, 16), torch.randn(2, 8, 6, 8)]
    want = model.roi_head.loss(feats, boxes, targets)
    with torch.autocast('cpu', torch.bfloat16):
        got = model.roi_head.loss([f.bfloat16() for f in feats], boxes, targets)
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert 'acc' in name or value.item() == pytest.approx(want[name].item(), rel=0.1, abs=0.02)
