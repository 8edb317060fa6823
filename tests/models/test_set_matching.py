"""Match costs, Hungarian matching and the set loss, against loops over images and scipy."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy.optimize import linear_sum_assignment

from omnidet.errors import ConfigError
from omnidet.models.dense_heads.query.detr_head import DETRHead
from omnidet.models.parts.assigners import hungarian
from omnidet.models.parts.assigners.hungarian import HungarianAssigner, match
from omnidet.models.parts.queries import QueryLayer, QueryPredictions, QueryTargets, query_targets
from omnidet.models.parts.set_loss import set_loss
from omnidet.registry import MATCH_COSTS
from omnidet.structures import Targets

K, COSTS = 5, [{'type': 'ClassificationCost', 'weight': 1.0},
               {'type': 'BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
               {'type': 'IoUCost', 'iou_mode': 'giou', 'weight': 2.0}]


def objects(counts, H=80, W=120, seed=0, extra=0):
    """Targets of images with so many objects each; `extra` places more of padding."""
    g = torch.Generator().manual_seed(seed)
    items = []
    for i, n in enumerate(counts):
        low = torch.rand(n, 2, generator=g) * torch.tensor([W / 2, H / 2])
        size = 4 + torch.rand(n, 2, generator=g) * torch.tensor([W / 3, H / 3])
        items.append({'boxes': torch.cat([low, low + size], 1), 'labels': torch.randint(0, K, (n,), generator=g),
                      'size': (H - 5 * i, W - 7 * i)})
    targets = Targets.collate(items, (H, W))
    for name in ('boxes', 'labels', 'valid', 'ignore'):
        value = getattr(targets, name)
        setattr(targets, name, torch.cat([value, value.new_zeros(len(value), extra, *value.shape[2:])], 1))
    return targets


def predictions(B, Q, seed=1, softmax=True):
    g = torch.Generator().manual_seed(seed)
    boxes = torch.cat([torch.rand(B, Q, 2, generator=g), 0.05 + 0.4 * torch.rand(B, Q, 2, generator=g)], -1)
    return QueryPredictions(torch.randn(B, Q, K + softmax, generator=g), boxes)


def pixels(boxes, size):
    """cxcywh in 0..1 -> xyxy in pixels of an image of `size` (h, w)."""
    h, w = size.tolist()
    return torchvision.ops.box_convert(boxes, 'cxcywh', 'xyxy') * torch.tensor([w, h, w, h])


def naive_cost(logits, boxes, gt_boxes, gt_labels, size):
    """DETR's cost (Q, G) of one image's real objects."""
    h, w = size.tolist()
    gt01 = torchvision.ops.box_convert(gt_boxes / torch.tensor([w, h, w, h]), 'xyxy', 'cxcywh')
    giou = torchvision.ops.generalized_box_iou(pixels(boxes, size), gt_boxes)
    return -logits.softmax(-1)[:, gt_labels] + 5 * (boxes[:, None] - gt01).abs().sum(-1) - 2 * giou


@pytest.mark.parametrize('counts, Q', [((3, 0, 5), 8), ((1, 1), 6), ((12, 2), 4), ((0, 0), 3), ((300, 20), 320)])
def test_matching_equals_scipy_image_by_image(counts, Q):
    targets, pred = objects(counts, extra=3), predictions(len(counts), Q)
    (found,) = HungarianAssigner(COSTS)([pred], [query_targets(targets)])
    for b, n in enumerate(counts):
        cost = naive_cost(pred.logits[b], pred.boxes[b], targets.boxes[b, :n], targets.labels[b, :n], targets.sizes[b])
        rows, cols = linear_sum_assignment(cost.numpy())
        want = torch.full((Q,), -1)
        want[torch.from_numpy(rows)] = torch.from_numpy(cols)
        assert torch.equal(torch.where(found.positive[b], found.gt[b], -1), want)
        assert found.positive[b].sum() == min(n, Q)
    assert found.gt.min() >= 0 and not found.ignored.any()


def test_ignored_objects_are_not_matched():
    targets = objects((4,))
    targets.valid[0, 1], targets.ignore[0, 1] = False, True
    (found,) = HungarianAssigner(COSTS)([predictions(1, 10)], [query_targets(targets)])
    assert sorted(found.gt[0][found.positive[0]].tolist()) == [0, 2, 3]


def test_layers_with_different_numbers_of_queries_are_matched_together(monkeypatch):
    calls = []
    monkeypatch.setattr(hungarian, 'match', lambda costs: calls.append(len(costs)) or match(costs))
    truth, layers = query_targets(objects((3, 2))), [predictions(2, Q, seed=Q) for Q in (7, 30, 7)]
    together = HungarianAssigner(COSTS)(layers, [truth] * 3)
    assert calls == [3]
    for layer, found in zip(layers, together):
        (alone,) = HungarianAssigner(COSTS)([layer], [truth])
        assert torch.equal(found.gt, alone.gt) and torch.equal(found.positive, alone.positive)


def test_diverged_predictions_are_still_matched():
    pred = predictions(1, 5)
    pred.boxes[0, 2] = torch.nan
    (found,) = HungarianAssigner(COSTS)([pred], [query_targets(objects((3,)))])
    assert found.positive.sum() == 3 and not found.positive[0, 2]


def masks(B=2, Q=3, G=4, P=50):
    g = torch.Generator().manual_seed(3)
    truth = QueryTargets(torch.zeros(B, G, dtype=torch.long), torch.ones(B, G, dtype=torch.bool),
                         masks=(torch.rand(B, G, P, generator=g) < 0.4).float())
    return QueryPredictions(torch.randn(B, Q, K, generator=g), masks=torch.randn(B, Q, P, generator=g)), truth


def test_mask_cross_entropy_cost_is_the_mean_of_binary_cross_entropies():
    pred, truth = masks()
    cost = MATCH_COSTS.build({'type': 'CrossEntropyLossCost', 'weight': 3.0})(pred, truth)
    for q in range(3):
        for n in range(4):
            want = 3 * F.binary_cross_entropy_with_logits(pred.masks[1, q], truth.masks[1, n])
            torch.testing.assert_close(cost[1, q, n], want)


@pytest.mark.parametrize('naive_dice', [True, False])
def test_dice_cost_is_one_minus_the_dice_coefficient(naive_dice):
    pred, truth = masks()
    cost = MATCH_COSTS.build({'type': 'DiceCost', 'weight': 2.0, 'pred_act': True, 'eps': 1.0,
                              'naive_dice': naive_dice})(pred, truth)
    a, b = pred.masks[0, 2].sigmoid(), truth.masks[0, 1]
    size = a.sum() + b.sum() if naive_dice else (a ** 2).sum() + (b ** 2).sum()
    torch.testing.assert_close(cost[0, 2, 1], 2 * (1 - (2 * (a * b).sum() + 1) / (size + 1)))


def test_focal_cost_is_the_change_of_the_focal_loss():
    truth, pred = query_targets(objects((3, 2))), predictions(2, 6, softmax=False)
    cost = MATCH_COSTS.build({'type': 'FocalLossCost', 'weight': 2.0})(pred, truth)
    x = pred.logits[1, 4, truth.labels[1, 1]]
    with_it = torchvision.ops.sigmoid_focal_loss(x, torch.ones(()), 0.25, 2)
    without = torchvision.ops.sigmoid_focal_loss(x, torch.zeros(()), 0.25, 2)
    torch.testing.assert_close(cost[1, 4, 1], 2 * (with_it - without))


def test_focal_cost_of_masks_is_the_mean_over_points():
    pred, truth = masks()
    cost = MATCH_COSTS.build({'type': 'FocalLossCost', 'binary_input': True})(pred, truth)
    want = torchvision.ops.sigmoid_focal_loss(pred.masks[0, 1], truth.masks[0, 3], 0.25, 2).mean()
    torch.testing.assert_close(cost[0, 1, 3], want)


def test_iou_cost_and_corners():
    truth, pred = query_targets(objects((3, 2))), predictions(2, 6)
    iou = MATCH_COSTS.build({'type': 'IoUCost', 'iou_mode': 'iou', 'weight': 2.0})(pred, truth)
    corners = MATCH_COSTS.build({'type': 'BBoxL1Cost'})(pred, truth)
    size, gt = torch.tensor([75, 113]), objects((3, 2)).boxes[1, :2]
    mine = pixels(pred.boxes[1], size)
    torch.testing.assert_close(iou[1, :, :2], -2 * torchvision.ops.box_iou(mine, gt))
    want = ((mine[:, None] - gt) / torch.tensor([113, 75, 113, 75])).abs().sum(-1)
    torch.testing.assert_close(corners[1, :, :2], want)


def test_cost_of_what_a_head_does_not_predict_is_refused():
    with pytest.raises(ConfigError, match='no masks'):
        HungarianAssigner({'type': 'DiceCost'})([predictions(1, 3)], [query_targets(objects((1,)))])


@pytest.mark.parametrize('cfg', [{'type': 'BBoxL1Cost', 'box_format': 'cxcy'}, {'type': 'IoUCost', 'iou_mode': 'l1'},
                                 {'type': 'CrossEntropyLossCost', 'use_sigmoid': False}])
def test_unknown_choices_are_refused(cfg):
    with pytest.raises(ConfigError, match=cfg['type']):
        MATCH_COSTS.build(cfg)


def naive_losses(pred, targets, counts):
    """DETR's losses of one layer by a loop over images (arXiv:2005.12872, section 3.1 and appendix A.2)."""
    cls = l1 = iou = 0.0
    weights = torch.tensor([1.0] * K + [0.1])
    matched = others = 0
    for b, n in enumerate(counts):
        gt, labels, size = targets.boxes[b, :n], targets.labels[b, :n], targets.sizes[b]
        rows, cols = linear_sum_assignment(naive_cost(pred.logits[b], pred.boxes[b], gt, labels, size).numpy())
        rows, cols = torch.from_numpy(rows), torch.from_numpy(cols)
        want = torch.full((len(pred.logits[b]),), K)
        want[rows] = labels[cols]
        cls = cls + (F.cross_entropy(pred.logits[b], want, reduction='none') * weights[want]).sum()
        h, w = size.tolist()
        gt01 = torchvision.ops.box_convert(gt / torch.tensor([w, h, w, h]), 'xyxy', 'cxcywh')
        l1 = l1 + (pred.boxes[b][rows] - gt01[cols]).abs().sum()
        iou = iou + torchvision.ops.generalized_box_iou_loss(pixels(pred.boxes[b][rows], size), gt[cols], 'sum')
        matched, others = matched + len(rows), others + len(want) - len(rows)
    return {'loss_cls': cls / max(matched + 0.1 * others, 1), 'loss_bbox': 5 * l1 / max(matched, 1),
            'loss_iou': 2 * iou / max(matched, 1)}


@pytest.mark.parametrize('extra', [0, 4])
@pytest.mark.parametrize('counts, Q', [((3, 0, 5), 8), ((9, 1), 4), ((0, 0), 30), ((300, 7), 100)])
def test_set_loss_equals_a_loop_over_images(counts, Q, extra):
    head, targets = DETRHead(K), objects(counts, extra=extra)
    first, last = predictions(len(counts), Q, seed=5), predictions(len(counts), Q, seed=6)
    got = set_loss([QueryLayer(first, 'd0.'), QueryLayer(last)], query_targets(targets), head.assigner, head.losses)
    want = {f'd0.{k}': v for k, v in naive_losses(first, targets, counts).items()}
    want |= naive_losses(last, targets, counts)
    assert got.keys() == want.keys()
    for k, v in want.items():
        torch.testing.assert_close(got[k], torch.as_tensor(v), rtol=1e-4, atol=1e-6, msg=k)


def test_known_assignment_and_other_objects_are_used_for_their_layer():
    truth, pred = query_targets(objects((2, 2))), predictions(2, 5)
    (known,) = HungarianAssigner(COSTS)([pred], [truth])
    others = truth._replace(labels=torch.zeros_like(truth.labels))
    seen = []
    set_loss([QueryLayer(pred, 'dn_', known), QueryLayer(pred, 'enc_', targets=others), QueryLayer(pred)], truth,
             HungarianAssigner(COSTS), lambda p, a, t: seen.append((a, t)) or {})
    assert seen[0][0] is known and seen[1][1] is others and seen[2][1] is truth


def test_queries_without_an_object_get_no_gradient_from_boxes():
    head, targets = DETRHead(K), objects((1,))
    pred = predictions(1, 6)
    boxes = pred.boxes.clone().requires_grad_()
    pred = pred._replace(boxes=boxes)
    (found,) = head.assigner([pred], [query_targets(targets)])
    losses = head.losses(pred, found, query_targets(targets))
    (losses['loss_bbox'] + losses['loss_iou']).backward()
    assert (boxes.grad[0].abs().sum(-1) > 0).tolist() == found.positive[0].tolist()


def test_losses_without_any_object_are_finite_and_of_the_class_alone():
    head = DETRHead(K)
    pred = predictions(2, 6)
    truth = query_targets(objects((0, 0)))
    got = set_loss([QueryLayer(pred)], truth, head.assigner, head.losses)
    assert got['loss_bbox'] == 0 and got['loss_iou'] == 0 and math.isfinite(got['loss_cls']) and got['loss_cls'] > 0
