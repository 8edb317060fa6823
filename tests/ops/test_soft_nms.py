"""Soft and multi-class suppression against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from omnidet.errors import ConfigError
from omnidet.ops.boxes import pairwise_iou
from omnidet.ops.nms import batched_nms, multiclass_nms, suppress


def random_detections(n, seed, classes=3):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * 60
    boxes = torch.cat([corner, corner + 10 + torch.rand(n, 2, generator=g) * 40], -1)
    return boxes, torch.rand(n, generator=g), torch.randint(classes, (n,), generator=g)


def naive_soft_nms(boxes, scores, labels, method, thr, sigma, least):
    """arXiv:1704.04503, figure 2, in plain numbers."""
    iou = pairwise_iou(boxes, boxes)
    left, scores, out = list(range(len(boxes))), scores.tolist(), []
    while left:
        best = max(left, key=lambda i: scores[i])
        if scores[best] < least:
            break
        out.append((best, scores[best]))
        left.remove(best)
        for i in left:
            v = iou[best, i].item() if labels[i] == labels[best] else 0.0
            if method == 'gaussian':
                scores[i] *= math.exp(-v * v / sigma)
            elif v > thr:
                scores[i] *= 1 - v if method == 'linear' else 0
    return out


@pytest.mark.parametrize('method', ['linear', 'gaussian', 'naive'])
@pytest.mark.parametrize('classes', [1, 3])
def test_soft_nms_agrees_with_a_loop(method, classes):
    boxes, scores, labels = random_detections(60, 4, classes)
    options = {'type': 'soft_nms', 'method': method, 'iou_threshold': 0.4, 'sigma': 0.6, 'min_score': 0.02}
    got = batched_nms(boxes, scores, labels, **options)
    want = naive_soft_nms(boxes, scores, labels, method, 0.4, 0.6, 0.02)
    assert got.keep.tolist() == [i for i, _ in want]
    assert got.scores.tolist() == pytest.approx([s for _, s in want], rel=1e-4)
    assert (got.scores[1:] <= got.scores[:-1]).all()


def test_naive_soft_nms_is_nms():
    boxes, scores, labels = random_detections(80, 5)
    soft = batched_nms(boxes, scores, labels, type='soft_nms', method='naive', iou_threshold=0.5)
    hard = batched_nms(boxes, scores, labels, type='nms', iou_threshold=0.5)
    kept = hard.scores >= 1e-3
    assert soft.keep.tolist() == hard.keep[kept].tolist() and torch.equal(soft.scores, hard.scores[kept])


def test_soft_nms_leaves_its_input_alone_and_stops_at_max_num():
    boxes, scores, labels = random_detections(30, 6)
    before = scores.clone()
    all_of_them = batched_nms(boxes, scores, labels, type='soft_nms', class_agnostic=True)
    best = batched_nms(boxes, scores, labels, type='soft_nms', class_agnostic=True, max_num=5)
    assert torch.equal(scores, before) and torch.equal(best.keep, all_of_them.keep[:5])
    assert len(batched_nms(boxes[:0], scores[:0], labels[:0], type='soft_nms').keep) == 0


@pytest.mark.parametrize('options', [{'method': 'cubic'}, {'sigm': 0.5}])
def test_unknown_options_of_soft_nms_are_refused(options):
    with pytest.raises(ConfigError, match='nms'):
        batched_nms(*random_detections(4, 0), type='soft_nms', **options)


def test_the_older_spelling_of_the_threshold_is_known():
    boxes, scores, labels = random_detections(50, 7)
    assert torch.equal(batched_nms(boxes, scores, labels, iou_thr=0.3).keep,
                       batched_nms(boxes, scores, labels, iou_threshold=0.3).keep)


@pytest.mark.parametrize('own_boxes', [False, True])
def test_every_class_of_a_box_is_a_detection(own_boxes):
    boxes, _, _ = random_detections(20, 8)
    scores = torch.rand(20, 3, generator=torch.Generator().manual_seed(9))
    each = boxes.repeat(1, 3) + (torch.arange(3) * 2.0).repeat_interleave(4) if own_boxes else boxes
    got = multiclass_nms(each, scores, 0.3, {'type': 'nms', 'iou_threshold': 0.5}, 12)
    want = []
    for k in range(3):
        mine = each.reshape(20, -1, 4)[:, k if own_boxes else 0]
        keep = [i for i in scores[:, k].argsort(descending=True).tolist() if scores[i, k] > 0.3]
        while keep:
            want.append((scores[keep[0], k].item(), k, keep[0], mine[keep[0]].tolist()))
            iou = pairwise_iou(mine[keep[:1]], mine)[0]
            keep = [i for i in keep[1:] if iou[i] <= 0.5]
    want = sorted(want, reverse=True)[:12]
    assert got.scores.tolist() == pytest.approx([w[0] for w in want])
    assert got.labels.tolist() == [w[1] for w in want] and got.prior.tolist() == [w[2] for w in want]
    assert got.boxes.tolist() == [w[3] for w in want]


def test_without_suppression_the_best_come_first():
    boxes, labels = random_detections(3, 0)[0], tensor([0, 0, 0])
    assert suppress(boxes, tensor([0.2, 0.9, 0.5]), labels, None, 2).keep.tolist() == [1, 2]
    assert suppress(boxes, tensor([0.2, 0.9, 0.5]), labels, {'type': 'nms', 'iou_threshold': 1.0, 'max_num': 2}, 3
                    ).keep.tolist() == [1, 2]
