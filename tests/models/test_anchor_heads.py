"""Heads with anchors: what their losses add up, what they propose, and that padding and empty images do no harm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import omnidet
from omnidet.errors import ConfigError
from omnidet.ops.boxes import pairwise_iou
from omnidet.registry import DENSE_HEADS
from omnidet.structures import ImageMeta, Targets

IOU = {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4, 'min_pos_iou': 0.0}
NMS = {'type': 'nms', 'iou_threshold': 0.5}
ANCHORS = {'type': 'AnchorGenerator', 'scales': [2, 4], 'ratios': [0.5, 1.0, 2.0], 'strides': [8, 16]}
RANDOM = {'type': 'RandomSampler', 'num': 32, 'pos_fraction': 0.5, 'neg_pos_ub': -1, 'add_gt_as_proposals': False}
RETINA = {'type': 'RetinaHead', 'num_classes': 3, 'in_channels': 8, 'feat_channels': 8, 'stacked_convs': 1,
          'anchor_generator': ANCHORS, 'train_cfg': {'assigner': IOU},
          'test_cfg': {'nms_pre': 50, 'score_thr': 0.0, 'nms': NMS, 'max_per_img': 20}}
RPN = {'type': 'RPNHead', 'in_channels': 8, 'feat_channels': 8, 'anchor_generator': ANCHORS,
       'train_cfg': {'assigner': IOU, 'sampler': RANDOM},
       'test_cfg': {'nms_pre': 60, 'max_per_img': 30, 'nms': {'type': 'nms', 'iou_threshold': 0.7}, 'min_bbox_size': 0}}
SSD = {'type': 'SSDHead', 'num_classes': 3, 'in_channels': (8, 8),
       'anchor_generator': {'type': 'SSDAnchorGenerator', 'strides': [8, 16], 'ratios': [[2], [2, 3]],
                            'min_sizes': [16, 32], 'max_sizes': [32, 64]},
       'train_cfg': {'assigner': {**IOU, 'neg_iou_thr': 0.5, 'gt_max_assign_all': False}, 'neg_pos_ratio': 3},
       'test_cfg': RETINA['test_cfg']}
GIOU = {'reg_decoded_bbox': True, 'loss_bbox': {'type': 'GIoULoss'}}
SOFTMAX = {'loss_cls': {'type': 'CrossEntropyLoss', 'use_sigmoid': False}}
VARIANTS = [RETINA, {**RETINA, **GIOU}, {**RETINA, **SOFTMAX}, RPN, {**RPN, **GIOU}, {**RPN, **SOFTMAX},
            {**RPN, 'num_convs': 2}, SSD, {**SSD, 'reg_decoded_bbox': True},
            {**SSD, 'use_depthwise': True, 'stacked_convs': 1, 'feat_channels': 8, 'norm_cfg': {'type': 'BN'}}]


def build(cfg, seed=0):
    torch.manual_seed(seed)
    head = DENSE_HEADS.build(cfg)
    for p in head.parameters():
        torch.nn.init.normal_(p, 0, 0.3)
    return head


def feats(B=2, size=64, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(B, 8, size // s, size // s, generator=g) for s in (8, 16)]


def targets(*boxes, size=(64, 64)):
    return Targets.collate([{'boxes': torch.tensor(b).reshape(-1, 4), 'labels': torch.arange(len(b)) % 3, 'size': size}
                            for b in boxes], (64, 64))


def metas(B=2, **kw):
    return [ImageMeta((64, 64), (64, 64), **kw) for _ in range(B)]


TWO = [[4., 4., 36., 40.], [20., 30., 60., 62.]]


@pytest.mark.parametrize('cfg', VARIANTS, ids=range(len(VARIANTS)))
def test_every_variant_trains_proposes_and_predicts(cfg):
    head, x = build(cfg), feats()
    losses, proposals = head.loss_and_propose(x, targets(TWO, []), {'nms_pre': 40, 'max_per_img': 15, 'nms': NMS})
    assert all(v.ndim == 0 and v.isfinite() and v > 0 for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert proposals.boxes.shape[:2] == proposals.valid.shape == proposals.scores.shape
    assert proposals.boxes.shape[1] <= 15 and not proposals.boxes.requires_grad and proposals.valid.any(1).all()
    assert proposals.boxes.min() >= 0 and proposals.boxes.max() <= 64
    results = head.eval().predict(x, metas())
    assert all(0 < len(r) <= cfg['test_cfg']['max_per_img'] and (r.scores[1:] <= r.scores[:-1]).all() for r in results)
    assert all(r.labels.max() < head.num_classes and ((r.scores >= 0) & (r.scores <= 1)).all() for r in results)


@pytest.mark.parametrize('cfg', [RETINA, SSD, {**RPN, 'train_cfg': {'assigner': IOU}}])
def test_a_batch_costs_what_its_images_cost(cfg):
    """Each loss is a sum over images, over the sum of the images' positives."""
    head, x = build(cfg), feats()
    both = head.loss(x, targets(TWO, TWO[:1]))
    one = [head.loss([f[i:i + 1] for f in x], targets(b)) for i, b in enumerate((TWO, TWO[:1]))]
    count = [assigned(head, x, targets(b)).positive.sum() for b in (TWO, TWO[:1])]
    for name, value in both.items():
        want = (one[0][name] * count[0] + one[1][name] * count[1]) / (count[0] + count[1])
        torch.testing.assert_close(value, want)


def assigned(head, x, t):
    priors = head.priors(x)
    return head.assigner(priors, t, torch.ones(len(t), len(priors.boxes), dtype=torch.bool))


@pytest.mark.parametrize('cfg', [RETINA, RPN, SSD])
def test_padding_the_objects_changes_no_loss(cfg):
    head, x = build({**cfg, 'train_cfg': {**cfg['train_cfg'], 'sampler': None}}), feats()
    few = targets(TWO, [])
    many = targets(TWO, [], TWO * 20)[:2]
    assert many.boxes.shape[1] == 40
    for name, value in head.loss(x, few).items():
        torch.testing.assert_close(head.loss(x, many)[name], value)


def test_an_image_without_objects_counts_for_one_and_has_no_box_loss():
    head, x = build(RETINA), feats(1)
    losses = head.loss(x, targets([]))
    out = head(x)['cls']
    want = 0.75 * (out.sigmoid().square() * F.softplus(out)).sum()
    torch.testing.assert_close(losses['loss_cls'], want)
    assert losses['loss_bbox'] == 0


def test_sampled_negatives_count_too():
    """With a sampler that keeps all, the RPN's losses are over the positives and the negatives."""
    head, x = build({**RPN, 'train_cfg': {'assigner': IOU, 'sampler': {**RANDOM, 'num': 10 ** 7}}}), feats(1)
    t = targets(TWO)
    got, a, out, priors = head.loss(x, t), assigned(head, x, t), head(x), head.priors(x)
    kept = ~a.ignored
    bce = F.binary_cross_entropy_with_logits(out['cls'][..., 0], a.positive.float(), reduction='none')
    torch.testing.assert_close(got['loss_rpn_cls'], bce[kept].sum() / kept.sum())
    deltas = head.coder.encode(priors, t.boxes.gather(1, a.gt[..., None].expand(-1, -1, 4)))
    box = F.smooth_l1_loss(out['reg'], deltas, reduction='none', beta=1 / 9)
    torch.testing.assert_close(got['loss_rpn_bbox'], box[a.positive].sum() / kept.sum())


def test_positives_can_have_a_weight():
    plain, x, t = build(RETINA), feats(), targets(TWO, [])
    heavy = build({**RETINA, 'train_cfg': {'assigner': IOU, 'pos_weight': 3.0}})
    out, a = plain(x), assigned(plain, x, t)
    labels = torch.where(a.positive, t.labels.gather(1, a.gt), 3)
    own = plain.loss_cls(out['cls'], labels, a.positive.float(), avg_factor=a.positive.sum(1).clamp(min=1).sum())
    torch.testing.assert_close(heavy.loss(x, t)['loss_cls'], plain.loss(x, t)['loss_cls'] + 2 * own)


def test_anchors_that_leave_the_image_are_out_where_it_is_asked():
    strict, x, t = build({**RPN, 'train_cfg': {'assigner': IOU, 'allowed_border': 0}}), feats(1), targets(TWO)
    priors = strict.priors(x)
    inside = ((priors.boxes[:, :2] >= 0) & (priors.boxes[:, 2:] < 64)).all(-1)
    out = strict(x)['cls'][..., 0]
    a = strict.assigner(priors, t, inside[None])
    bce = F.binary_cross_entropy_with_logits(out, a.positive.float(), reduction='none')
    torch.testing.assert_close(strict.loss(x, t)['loss_rpn_cls'], bce[~a.ignored].sum() / a.positive.sum())


def test_ssd_takes_the_three_hardest_negatives_of_each_image_for_each_positive():
    head, x, t = build(SSD), feats(), targets(TWO, TWO[:1])
    out, a, want = head(x)['cls'], assigned(head, x, t), 0.0
    for i in range(2):
        cost = -out[i].log_softmax(-1)
        hard = cost[:, 3][~a.positive[i]].sort(descending=True).values[:3 * int(a.positive[i].sum())]
        own = [cost[n, t.labels[i, a.gt[i, n]]] for n in a.positive[i].nonzero()[:, 0].tolist()]
        want = want + hard.sum() + sum(own)
    torch.testing.assert_close(head.loss(x, t)['loss_cls'], want / a.positive.sum())


@pytest.mark.parametrize('cfg', [RPN, {**RPN, **SOFTMAX}])
def test_proposals_are_each_levels_best_without_overlaps_on_their_level(cfg):
    head, x = build(cfg), feats()
    out, priors = head(x), head.priors(x)
    got = head.propose(x, metas())
    scores = head.scores(out)[..., 0]
    boxes = head.coder.decode(priors, out['reg'], torch.tensor([64, 64]))
    for i in range(2):
        found, start = [], 0
        for size in priors.level_sizes:
            s, b = scores[i, start:start + size], boxes[i, start:start + size]
            left = [n for n in s.argsort(descending=True)[:60].tolist() if (b[n, 2:] > b[n, :2]).all()]
            while left:
                found.append((s[left[0]].item(), b[left[0]].tolist()))
                iou = pairwise_iou(b[left[:1]], b[left])[0]
                left = [n for n, v in zip(left[1:], iou[1:].tolist(), strict=True) if v <= 0.7]
            start += size
        found = sorted(found, reverse=True)[:30]
        assert got.scores[i][got.valid[i]].tolist() == pytest.approx([s for s, _ in found], rel=1e-5)
        torch.testing.assert_close(got.boxes[i][got.valid[i]], torch.tensor([b for _, b in found]))


def test_a_proposing_retina_head_gives_its_detections():
    head, x = build(RETINA), feats()
    proposals = head.propose(x, metas(), {'nms_pre': 30, 'nms': NMS, 'max_per_img': 9})
    want = build({**RETINA, 'test_cfg': {'nms_pre': 30, 'nms': NMS, 'max_per_img': 9}}).predict(x, metas())
    assert [len(r) for r in want] == proposals.valid.sum(1).tolist()
    assert all(torch.equal(b[v], r.boxes) for b, v, r in zip(proposals.boxes, proposals.valid, want, strict=True))


def test_proposals_come_back_to_the_files_pixels_as_class_0():
    head, x = build(RPN), feats()
    small, large = head.predict(x, metas()), head.predict(x, metas(scale_factor=(0.5, 2.0)))
    torch.testing.assert_close(large[0].boxes, small[0].boxes * torch.tensor([2, 0.5, 2, 0.5]))
    assert not small[0].labels.any()
    assert torch.equal(head.predict(x, metas(scale_factor=(0.5, 2.0)), rescale=False)[0].boxes, small[0].boxes)


def test_proposals_of_unequal_number_are_padded():
    head = build({**RPN, 'test_cfg': {**RPN['test_cfg'], 'min_bbox_size': 40}})
    x = feats()
    got = head.propose(x, [ImageMeta((64, 64), (64, 64)), ImageMeta((64, 32), (64, 32))])
    assert got.valid[0].any() and not got.valid[1].any() and not got.boxes[1].any()


def test_proposals_have_one_class():
    with pytest.raises(ConfigError, match='num_classes'):
        DENSE_HEADS.build({**RPN, 'num_classes': 80})
    with pytest.raises(ConfigError, match='nms_pree'):
        build(RPN).propose(feats(), metas(), {'nms_pree': 3})


def test_retina_scores_begin_near_one_percent():
    head = DENSE_HEADS.build({**RETINA, 'in_channels': 8})
    assert head.retina_cls.bias.sigmoid().tolist() == pytest.approx([0.01] * 18, rel=1e-3)
    assert head.retina_reg.weight.std().item() == pytest.approx(0.01, rel=0.2)


BACKBONE = {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'num_stages': 3, 'strides': (1, 2, 2),
            'dilations': (1, 1, 1), 'out_indices': (1, 2)}
NECK = {'type': 'FPN', 'in_channels': [16, 32], 'out_channels': 8, 'num_outs': 2}


@pytest.mark.parametrize(('kind', 'key', 'head', 'wrap'), [
    ('RetinaNet', 'bbox_head', RETINA, lambda c: c), ('RPN', 'rpn_head', RPN, lambda c: {'rpn': c})])
def test_detectors_train_and_predict(kind, key, head, wrap):
    parts = {k: v for k, v in head.items() if k not in ('train_cfg', 'test_cfg')}
    model = omnidet.build_model({'type': kind, 'backbone': BACKBONE, 'neck': NECK, key: parts,
                                 'train_cfg': wrap(head['train_cfg']), 'test_cfg': wrap(head['test_cfg'])})
    assert any(k.startswith('bbox_head.') for k in model.state_dict())
    losses = model.loss(torch.randn(2, 3, 64, 64), targets(TWO, []))
    sum(losses.values()).backward()
    assert set(losses) == ({'loss_rpn_cls', 'loss_rpn_bbox'} if kind == 'RPN' else {'loss_cls', 'loss_bbox'})
    assert len(model.eval().predict(torch.randn(2, 3, 64, 64), metas())) == 2
