"""Assignment by overlap against a loop over images and objects."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from omnidet.errors import ConfigError
from omnidet.models.parts.assigners.max_iou import ApproxMaxIoUAssigner, MaxIoUAssigner
from omnidet.ops.boxes import pairwise_iof, pairwise_iou
from omnidet.structures import Priors, Targets


def boxes_in(n, size, generator, least=4.0):
    corner = torch.rand(n, 2, generator=generator) * size * 0.8
    return torch.cat([corner, corner + least + torch.rand(n, 2, generator=generator) * size * 0.4], -1)


def targets_of(items):
    return Targets.collate([{'boxes': b, 'labels': torch.zeros(len(b), dtype=torch.long), 'ignore': i}
                            for b, i in items], (128, 128))


def naive(anchors, gt, crowd, inside, pos=0.5, neg=0.4, least=0.0, every=True, low_quality=True, iof=-1.0):
    """One image in plain loops: the object of each anchor, -1 for background, -2 for ignored."""
    neg_low, neg_high = neg if isinstance(neg, tuple) else (0.0, neg)
    out = []
    usable = list(inside)
    for n in range(len(anchors)):
        if iof > 0 and len(crowd) and pairwise_iof(anchors[n:n + 1], crowd).max() > iof:
            usable[n] = False
    iou = pairwise_iou(gt, anchors)
    for n in range(len(anchors)):
        if not usable[n]:
            out.append(-2)
        elif len(gt) == 0:
            out.append(-1)
        else:
            best = max(range(len(gt)), key=lambda g, n=n: iou[g, n].item())
            v = iou[best, n].item()
            out.append(best if v >= pos else -1 if neg_low <= v < neg_high else -2)
    if low_quality:
        for g in range(len(gt)):
            mine = [(iou[g, n].item(), n) for n in range(len(anchors)) if usable[n]]
            if mine and max(mine)[0] >= least:
                top = max(v for v, _ in mine)
                ties = [n for v, n in mine if v == top]
                for n in ties if every else ties[:1]:
                    out[n] = g
    return out


def coded(assignment, i):
    gt, positive, ignored = (t[i].tolist() for t in assignment[:3])
    return [g if p else -2 if ign else -1 for g, p, ign in zip(gt, positive, ignored, strict=True)]


OPTIONS = [{}, {'least': 0.3, 'pos': 0.7, 'neg': 0.3}, {'every': False}, {'low_quality': False},
           {'neg': (0.1, 0.4)}, {'iof': 0.5}]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('budget', [2 ** 24, 900])
@pytest.mark.parametrize('own', [False, True], ids=['shared priors', 'priors of each image'])
def test_a_batch_agrees_with_a_loop(options, budget, own):
    g = torch.Generator().manual_seed(1)
    counts = [(7, 2), (0, 0), (1, 0), (40, 3), (0, 2)]
    items = []
    for objects, crowds in counts:
        boxes = boxes_in(objects + crowds, 128, g)
        items.append((boxes, torch.arange(objects + crowds) >= objects))
    anchors = torch.stack([boxes_in(120, 128, g) for _ in counts]) if own else boxes_in(120, 128, g)
    inside = torch.rand(len(counts), 120, generator=g) < 0.9
    o = options
    assigner = MaxIoUAssigner(o.get('pos', 0.5), o.get('neg', 0.4), o.get('least', 0.0), o.get('every', True),
                              o.get('iof', -1), match_low_quality=o.get('low_quality', True), budget=budget)
    got = assigner(Priors(anchors, torch.zeros(0), ()), targets_of(items), inside)
    for i, (boxes, crowd) in enumerate(items):
        mine = anchors[i] if own else anchors
        assert coded(got, i) == naive(mine, boxes[~crowd], boxes[crowd], inside[i].tolist(), **options)
        if len(boxes[~crowd]):
            usable = inside[i] if 'iof' not in options else inside[i] & ~got.ignored[i]
            best = pairwise_iou(boxes[~crowd], mine).amax(0)
            assert torch.equal(got.score[i][usable], best[usable])
        else:
            assert not got.score[i].any()


def test_padding_changes_nothing():
    g = torch.Generator().manual_seed(2)
    few, many, anchors = boxes_in(3, 128, g), boxes_in(60, 128, g), Priors(boxes_in(50, 128, g), torch.zeros(0), ())
    alone = targets_of([(few, torch.zeros(3, dtype=torch.bool))])
    beside = targets_of([(b, torch.zeros(len(b), dtype=torch.bool)) for b in (few, many)])
    assigner, inside = MaxIoUAssigner(0.5, 0.4), torch.ones(2, 50, dtype=torch.bool)
    a, b = assigner(anchors, alone, inside[:1]), assigner(anchors, beside, inside)
    assert all(torch.equal(x[0], y[0]) for x, y in zip(a, b, strict=True))


def test_three_hundred_objects_and_one():
    g = torch.Generator().manual_seed(3)
    items = [(boxes_in(n, 512, g), torch.zeros(n, dtype=torch.bool)) for n in (300, 1)]
    anchors = boxes_in(400, 512, g)
    got = MaxIoUAssigner(0.7, 0.3, 0.3)(Priors(anchors, torch.zeros(0), ()), targets_of(items),
                                        torch.ones(2, 400, dtype=torch.bool))
    for i, (boxes, _) in enumerate(items):
        assert coded(got, i) == naive(anchors, boxes, boxes[:0], [True] * 400, 0.7, 0.3, 0.3)


def test_equally_good_anchors_are_all_taken_or_only_the_first():
    gt = tensor([[0., 0., 10., 10.]])
    anchors = Priors(tensor([[0., 0., 10., 5.], [0., 5., 10., 10.], [0., 0., 10., 4.]]), torch.zeros(0), ())
    targets, inside = targets_of([(gt, tensor([False]))]), torch.ones(1, 3, dtype=torch.bool)
    assert MaxIoUAssigner(0.7, 0.3)(anchors, targets, inside).positive.tolist() == [[True, True, False]]
    one = MaxIoUAssigner(0.7, 0.3, gt_max_assign_all=False)(anchors, targets, inside)
    assert one.positive.tolist() == [[True, False, False]] and one.ignored.tolist() == [[False, True, True]]


def test_the_later_object_has_an_anchor_that_is_best_for_two():
    gt = tensor([[0., 0., 10., 10.], [0., 0., 10., 8.]])
    anchor = Priors(tensor([[0., 0., 10., 9.5]]), torch.zeros(0), ())    # nearer to the first
    targets = targets_of([(gt, tensor([False, False]))])
    got = MaxIoUAssigner(0.7, 0.3)(anchor, targets, torch.ones(1, 1, dtype=torch.bool))
    assert got.gt.tolist() == [[1]]


def test_a_crowd_can_be_measured_by_how_much_of_it_a_prior_holds():
    crowd = tensor([[0., 0., 4., 4.]])
    anchor = Priors(tensor([[0., 0., 100., 100.], [50., 50., 60., 60.]]), torch.zeros(0), ())
    targets, inside = targets_of([(crowd, tensor([True]))]), torch.ones(1, 2, dtype=torch.bool)
    by_prior = MaxIoUAssigner(0.5, 0.5, ignore_iof_thr=0.5)(anchor, targets, inside)
    by_crowd = MaxIoUAssigner(0.5, 0.5, ignore_iof_thr=0.5, ignore_wrt_candidates=False)(anchor, targets, inside)
    assert by_prior.ignored.tolist() == [[False, False]] and by_crowd.ignored.tolist() == [[True, False]]


def test_no_proposals_and_no_objects_are_no_error():
    got = MaxIoUAssigner(0.5, 0.5)(Priors(torch.zeros(2, 0, 4), torch.zeros(0), ()),
                                   targets_of([(torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool))] * 2),
                                   torch.zeros(2, 0, dtype=torch.bool))
    assert got.gt.shape == (2, 0)


def test_a_prior_is_as_good_as_the_best_anchor_that_stands_for_it():
    gt = tensor([[0., 0., 10., 10.]])
    squares = Priors(tensor([[50., 50., 60., 60.], [0., 0., 9., 9.]]), torch.zeros(0), ())
    approxs = tensor([[[0., 0., 10., 10.], [50., 50., 60., 60.]], [[80., 80., 90., 90.], [0., 0., 10., 2.]]])
    targets, inside = targets_of([(gt, tensor([False]))]), torch.ones(1, 2, dtype=torch.bool)
    got = ApproxMaxIoUAssigner(0.5, 0.4, 0.0)(squares, targets, inside, approxs=approxs)
    assert got.positive.tolist() == [[True, False]] and got.score[0].tolist() == pytest.approx([1.0, 0.2])
    plain = ApproxMaxIoUAssigner(0.5, 0.4, 0.0)(squares, targets, inside)
    assert plain.positive.tolist() == [[False, True]]


def test_repeated_objects_are_refused():
    with pytest.raises(ConfigError, match='perm_repeat_gt_cfg'):
        MaxIoUAssigner(0.5, 0.5, perm_repeat_gt_cfg={'iou_thr': 0.7})
