"""The batched assigner against a loop over images, objects and priors, written from the paper."""

from __future__ import annotations

import math

import pytest
import torch

from omnidet.models.parts.assigners.dynamic_soft_label import DynamicSoftLabelAssigner
from omnidet.models.parts.priors.points import MlvlPointGenerator, inside_image
from omnidet.structures import Predictions, Targets

PRIORS = MlvlPointGenerator(strides=[8, 16], offset=0)([(8, 8), (4, 4)])
N, K = 80, 3


def _iou(a, b):
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def _one_image(boxes, labels, inside, pred_boxes, logits, topk=13):
    """{prior: (object, IoU)} by plain loops."""
    points = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in PRIORS.boxes.tolist()]
    candidates = [n for n, (x, y) in enumerate(points) if inside[n]
                  and any(b[0] < x < b[2] and b[1] < y < b[3] for b in boxes)]
    cost, iou = {}, {}
    for g, (b, label) in enumerate(zip(boxes, labels)):
        for n in candidates:
            iou[n, g] = _iou(pred_boxes[n], b)
            cls = 0.0
            for k in range(K):
                p, y = 1 / (1 + math.exp(-logits[n][k])), iou[n, g] if k == label else 0.0
                cls += -(y * math.log(p) + (1 - y) * math.log(1 - p)) * (y - p) ** 2
            center = ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2)
            strides = math.dist(points[n], center) / PRIORS.strides[n].item()
            cost[n, g] = cls - 3 * math.log(iou[n, g] + 1e-7) + 10 ** (strides - 3)
    takers = {}
    for g in range(len(boxes)):
        best = sorted((iou[n, g] for n in candidates), reverse=True)[:topk]
        take = max(int(sum(best)), 1)
        for n in sorted(candidates, key=lambda n: cost[n, g])[:take]:
            takers.setdefault(n, []).append(g)
    out = {}
    for n, gs in takers.items():
        g = gs[0] if len(gs) == 1 else min(range(len(boxes)), key=lambda g: cost[n, g])
        out[n] = (g, iou[n, g])
    return out


def _scene(counts, seed=0):
    r = torch.Generator().manual_seed(seed)
    items = []
    for count in counts:
        xy = torch.rand(count, 2, generator=r) * 40
        items.append({'boxes': torch.cat([xy, xy + 4 + torch.rand(count, 2, generator=r) * 30], 1),
                      'labels': torch.randint(0, K, (count,), generator=r), 'size': (64, 48)})
    targets = Targets.collate(items, (64, 64))
    xy = PRIORS.boxes[:, :2] - 6 * torch.rand(len(counts), N, 2, generator=r)
    preds = Predictions(torch.cat([xy, xy + 4 + 20 * torch.rand(len(counts), N, 2, generator=r)], -1),
                        torch.randn(len(counts), N, K, generator=r))
    return items, targets, preds


@pytest.mark.parametrize('counts', [(3, 0, 1), (12, 5, 30), (0, 0), (300, 2)])
def test_equals_the_loop(counts):
    items, targets, preds = _scene(counts)
    inside = inside_image(PRIORS, targets.sizes)
    got = DynamicSoftLabelAssigner()(PRIORS, targets, inside, preds)
    for i, item in enumerate(items):
        want = _one_image(item['boxes'].tolist(), item['labels'].tolist(), inside[i].tolist(),
                          preds.boxes[i].tolist(), preds.logits[i].tolist())
        mine = {n: (got.gt[i, n].item(), got.score[i, n].item()) for n in range(N) if got.positive[i, n]}
        assert {n: g for n, (g, _) in mine.items()} == {n: g for n, (g, _) in want.items()}
        assert [mine[n][1] for n in want] == pytest.approx([s for _, s in want.values()], abs=1e-5)
    assert torch.equal(got.ignored, ~inside) and not (got.positive & ~inside).any()
    assert (got.gt >= 0).all() and (got.gt < targets.boxes.shape[1]).all() and not got.score[~got.positive].any()


def test_padding_and_chunks_change_nothing():
    items, targets, preds = _scene((3, 7, 1))
    inside = inside_image(PRIORS, targets.sizes)
    padded = Targets.collate([*items, {'boxes': torch.rand(40, 4), 'labels': torch.zeros(40)}], (64, 64))[:3]
    want = DynamicSoftLabelAssigner()(PRIORS, targets, inside, preds)
    for assigner, t in ((DynamicSoftLabelAssigner(), padded), (DynamicSoftLabelAssigner(budget=1), targets)):
        got = assigner(PRIORS, t, inside, preds)
        assert torch.equal(got.positive, want.positive) and torch.equal(got.score, want.score)
        assert torch.equal(got.gt[got.positive], want.gt[want.positive])


def test_ignored_objects_take_no_priors():
    item = {'boxes': torch.tensor([[4., 4., 40., 40.]]), 'labels': [1], 'ignore': [True]}
    targets = Targets.collate([item], (64, 64))
    _, _, preds = _scene((1,))
    got = DynamicSoftLabelAssigner()(PRIORS, targets, inside_image(PRIORS, targets.sizes), preds)
    assert not got.positive.any()
