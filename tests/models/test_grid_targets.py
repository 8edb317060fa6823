"""The targets of FCOS, ATSS, GFL, TOOD and YOLOX against loops over images, objects and priors, from the papers."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.models.parts.assigners import batches
from omnidet.models.parts.assigners.atss import ATSSAssigner
from omnidet.models.parts.assigners.regress_range import RegressRangeAssigner
from omnidet.models.parts.assigners.sim_ota import SimOTAAssigner
from omnidet.models.parts.assigners.task_aligned import TaskAlignedAssigner
from omnidet.models.parts.centerness import centerness
from omnidet.models.parts.coders.cell import CellBBoxCoder
from omnidet.models.parts.losses.focal import DistributionFocalLoss
from omnidet.models.parts.priors.anchors import AnchorGenerator
from omnidet.models.parts.priors.points import MlvlPointGenerator, inside_image
from omnidet.nn.integral import Integral
from omnidet.structures import Predictions, Targets

SHAPES = [(8, 8), (4, 4)]
POINTS = MlvlPointGenerator(strides=[8, 16])(SHAPES)
ANCHORS = AnchorGenerator(strides=[8, 16], ratios=[1.0], scales=[4])(SHAPES)
N, K = 80, 3
COUNTS = (0, 1, 7, 300)
CENTERS = {id(p): [((a + c) / 2, (b + d) / 2) for a, b, c, d in p.boxes.tolist()] for p in (POINTS, ANCHORS)}
STRIDES = POINTS.strides.tolist()


def scene(counts=COUNTS, seed=0, size=(64, 48)):
    """Random objects, and predictions that lie near some of them; the images' lower part is padding."""
    g = torch.Generator().manual_seed(seed)
    items = []
    for count in counts:
        xy = torch.rand(count, 2, generator=g) * 36
        boxes = torch.cat([xy, xy + 3 + torch.rand(count, 2, generator=g) * 40], 1).clamp(max=63)
        items.append({'boxes': boxes, 'labels': torch.randint(0, K, (count,), generator=g), 'size': size})
    boxes = POINTS.boxes + torch.tensor([-1., -1., 1., 1.]) * (4 + 20 * torch.rand(len(counts), N, 4, generator=g))
    preds = Predictions(boxes, torch.randn(len(counts), N, K, generator=g) * 2)
    return items, Targets.collate(items, (64, 64)), preds


def iou(a, b):
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def sides(point, box):
    return point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1]


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def most_overlapping(takers):
    """{prior: (object, value)} from {prior: {object: (IoU, value)}}."""
    best = {n: max(of, key=lambda g: (of[g][0], -g)) for n, of in takers.items() if of}
    return {n: (g, takers[n][g][1]) for n, g in best.items()}


def fcos(boxes, ranges, radius):
    out = {}
    for n, point in enumerate(CENTERS[id(POINTS)]):
        low, high = ranges[n >= 64]
        fitting = {}
        for g, box in enumerate(boxes):
            x, y = middle(box)
            reach = 1e9 if radius is None else radius * STRIDES[n]
            near = max(x - reach, box[0]), max(y - reach, box[1]), min(x + reach, box[2]), min(y + reach, box[3])
            if min(sides(point, near)) > 0 and low <= max(sides(point, box)) <= high:
                fitting[g] = (box[2] - box[0]) * (box[3] - box[1])
        if fitting:
            out[n] = (min(fitting, key=fitting.get), 0.0)
    return out


def atss(boxes, inside, topk):
    takers = {}
    points, anchors = CENTERS[id(ANCHORS)], ANCHORS.boxes.tolist()
    for g, box in enumerate(boxes):
        candidates = []
        for level in (range(64), range(64, 80)):
            usable = [n for n in level if inside[n]]
            candidates += sorted(usable, key=lambda n: math.dist(points[n], middle(box)))[:topk]
        overlaps = {n: iou(anchors[n], box) for n in candidates}
        threshold = statistics.mean(overlaps.values()) + statistics.stdev(overlaps.values())
        for n in candidates:
            if overlaps[n] >= threshold and min(sides(points[n], box)) > 0.01:
                takers.setdefault(n, {})[g] = overlaps[n], overlaps[n]
    return most_overlapping(takers)


def task_aligned(boxes, labels, inside, pred_boxes, logits, topk):
    takers, overlap = {}, {}
    for g, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        overlap[g] = [iou(p, box) for p in pred_boxes]
        aligned = {n: sigmoid(logits[n][label]) * overlap[g][n] ** 6 for n in range(N) if inside[n]}
        for n in sorted(aligned, key=aligned.get, reverse=True)[:topk]:
            if aligned[n] > 0 and min(sides(CENTERS[id(ANCHORS)][n], box)) > 0.01:
                takers.setdefault(n, {})[g] = overlap[g][n], aligned[n]
    out = most_overlapping(takers)
    scaled = {}
    for n, (g, t) in out.items():
        mine = [(m, u) for m, (h, u) in out.items() if h == g]
        scaled[n] = g, t / (max(u for _, u in mine) + 1e-7) * max(overlap[g][m] for m, _ in mine)
    return scaled


def sim_ota(boxes, labels, pred_boxes, logits):
    points, cost, overlap, in_both = CENTERS[id(POINTS)], {}, {}, {}
    candidates = []
    for n, point in enumerate(points):
        in_object = [min(sides(point, box)) > 0 for box in boxes]
        near = [max(abs(point[0] - middle(b)[0]), abs(point[1] - middle(b)[1])) < 2.5 * STRIDES[n] for b in boxes]
        if any(in_object) or any(near):
            candidates.append(n)
        in_both[n] = [a and b for a, b in zip(in_object, near, strict=True)]
    for g, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        for n in candidates:
            overlap[n, g] = iou(pred_boxes[n], box)
            p = [sigmoid(x) for x in logits[n]]
            entropy = -sum(math.log(p[k]) if k == label else math.log(1 - p[k]) for k in range(K))
            cost[n, g] = entropy - 3 * math.log(overlap[n, g] + 1e-7) + (0 if in_both[n][g] else 1e5)
    takers = {}
    for g in range(len(boxes)):
        take = max(1, int(sum(sorted((overlap[n, g] for n in candidates), reverse=True)[:10])))
        for n in sorted(candidates, key=lambda n: cost[n, g])[:take]:
            takers.setdefault(n, []).append(g)
    return {n: (g := of[0] if len(of) == 1 else min(range(len(boxes)), key=lambda g: cost[n, g]), overlap[n, g])
            for n, of in takers.items()}


def check(assignment, i, want):
    found = {n: (assignment.gt[i, n].item(), assignment.score[i, n].item())
             for n in assignment.positive[i].nonzero()[:, 0].tolist()}
    assert {n: g for n, (g, _) in found.items()} == {n: g for n, (g, _) in want.items()}
    assert all(found[n][1] == pytest.approx(value, abs=1e-4) for n, (_, value) in want.items())
    assert (assignment.score[i][~assignment.positive[i]] == 0).all()


@pytest.mark.parametrize('radius', [None, 1.5])
@pytest.mark.parametrize('seed', [0, 1])
def test_fcos_points_answer_for_the_smallest_object_in_their_range(radius, seed):
    items, targets, _ = scene(seed=seed)
    ranges = ((-1, 24), (24, 1e8))
    assigner = RegressRangeAssigner(ranges, center_sampling=radius is not None)
    got = assigner(POINTS, targets, inside_image(POINTS, targets.sizes))
    for i, item in enumerate(items):
        check(got, i, fcos(item['boxes'].tolist(), ranges, radius))
    assert not got.ignored.any() and got.positive[2:].any(1).all()


def test_fcos_wants_a_range_for_each_level():
    _, targets, _ = scene((1,))
    with pytest.raises(ConfigError, match='5 ranges for 2 levels'):
        RegressRangeAssigner()(POINTS, targets, inside_image(POINTS, targets.sizes))


@pytest.mark.parametrize('topk', [3, 9])
@pytest.mark.parametrize('seed', [0, 1])
def test_atss_takes_what_stands_out_among_the_near(topk, seed):
    items, targets, _ = scene(seed=seed, size=(60, 45))    # sizes at which no object's centre is as near to two anchors
    inside = inside_image(ANCHORS, targets.sizes)
    got = ATSSAssigner(topk)(ANCHORS, targets, inside)
    for i, item in enumerate(items):
        check(got, i, atss(item['boxes'].tolist(), inside[i].tolist(), topk))
    assert torch.equal(got.ignored, ~inside) and got.positive[2:].any(1).all()


def test_atss_ignores_anchors_in_a_crowd():
    crowd = {'boxes': torch.tensor([[0., 0., 30., 30.], [40., 40., 60., 60.]]), 'labels': torch.tensor([0, 1]),
             'ignore': torch.tensor([True, False])}
    targets = Targets.collate([crowd], (64, 64))
    small = AnchorGenerator(strides=[8, 16], ratios=[1.0], scales=[1], center_offset=0.5)(SHAPES)
    inside = inside_image(small, targets.sizes)
    got = ATSSAssigner(9, ignore_iof_thr=0.5)(small, targets, inside)
    x, y = ((small.boxes[:, :2] + small.boxes[:, 2:]) / 2).unbind(-1)
    assert got.ignored[0].tolist() == [bool(v) for v in (x < 30) & (y < 30)]
    assert not (got.positive & got.ignored).any() and (got.gt[got.positive] == 1).all() and got.positive.any()


@pytest.mark.parametrize('seed', [0, 1])
def test_task_aligned_takes_what_scores_and_localises_best(seed):
    items, targets, preds = scene(seed=seed)
    inside = inside_image(ANCHORS, targets.sizes)
    got = TaskAlignedAssigner(13)(ANCHORS, targets, inside, preds)
    for i, item in enumerate(items):
        check(got, i, task_aligned(item['boxes'].tolist(), item['labels'].tolist(), inside[i].tolist(),
                                   preds.boxes[i].tolist(), preds.logits[i].tolist(), 13))
    assert got.positive[2:].any(1).all()


@pytest.mark.parametrize('seed', [0, 1])
def test_sim_ota_takes_the_cheapest(seed):
    items, targets, preds = scene(seed=seed)
    got = SimOTAAssigner()(POINTS, targets, inside_image(POINTS, targets.sizes), preds)
    for i, item in enumerate(items):
        check(got, i, sim_ota(item['boxes'].tolist(), item['labels'].tolist(), preds.boxes[i].tolist(),
                              preds.logits[i].tolist()))
    assert got.positive[1:].any(1).all() and not got.ignored.any()


@pytest.mark.parametrize('assigner, priors', [
    (RegressRangeAssigner(((-1, 24), (24, 1e8))), POINTS), (ATSSAssigner(9), ANCHORS), (ATSSAssigner(9, 0.8), ANCHORS),
    (TaskAlignedAssigner(13), ANCHORS), (SimOTAAssigner(), POINTS)], ids=lambda x: type(x).__name__)
def test_a_few_images_at_a_time_give_the_same(assigner, priors, monkeypatch):
    _, targets, preds = scene()
    inside = inside_image(priors, targets.sizes)
    whole = assigner(priors, targets, inside, preds)
    monkeypatch.setattr(batches.by_images, '__defaults__', (1,))
    for a, b in zip(whole, assigner(priors, targets, inside, preds), strict=True):
        assert torch.equal(a, b)


def test_centerness_by_hand():
    box = torch.tensor([[0., 0., 10., 20.]])
    points = torch.tensor([[5., 10.], [2., 10.], [2., 4.], [0., 5.], [-3., 5.]])
    inside = torch.tensor([True, True, True, True, False])
    want = [1, math.sqrt(2 / 8), math.sqrt(2 / 8 * 4 / 16), 0, 0]
    assert centerness(points, box.expand(5, 4), inside).tolist() == pytest.approx(want)


def test_cell_coder_by_hand_and_back():
    coder = CellBBoxCoder()
    deltas = torch.zeros(1, N, 4)
    deltas[0, 9] = torch.tensor([0.5, -1.0, math.log(2.0), 0.0])    # cell (1, 1) of stride 8, corner at (8, 8)
    boxes = coder.decode(POINTS, deltas)
    assert boxes[0, 9].tolist() == pytest.approx([4, -4, 20, 4]) and boxes[0, 0].tolist() == [-4, -4, 4, 4]
    assert torch.allclose(coder.encode(POINTS, boxes), deltas, atol=1e-6)


def test_distribution_is_about_the_two_whole_numbers_around_the_target():
    logits = torch.tensor([[1.0, 0.5, -1.0, 2.0]])
    p = logits.softmax(-1)[0].tolist()
    loss = DistributionFocalLoss(reduction='none', loss_weight=2.0)(logits, torch.tensor([1.3]))
    assert loss.item() == pytest.approx(-2 * (0.7 * math.log(p[1]) + 0.3 * math.log(p[2])), abs=1e-5)
    assert Integral(3)(logits.repeat(1, 4))[0].tolist() == pytest.approx([sum(i * x for i, x in enumerate(p))] * 4)
