"""Samplers: how many of which kind they keep, and that chance is fair."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from omnidet.models.parts.samplers.draw import draw, random_rank
from omnidet.models.parts.samplers.ohem import OHEMSampler
from omnidet.models.parts.samplers.pseudo import PseudoSampler
from omnidet.models.parts.samplers.random import (
    CombinedSampler,
    InstanceBalancedPosSampler,
    IoUBalancedNegSampler,
    RandomSampler,
)
from omnidet.models.parts.samplers.score_hlr import ScoreHLRSampler, hierarchical_local_rank
from omnidet.structures import Assignment

KINDS = [RandomSampler, InstanceBalancedPosSampler, IoUBalancedNegSampler,
         lambda **kw: CombinedSampler({'type': 'InstanceBalancedPosSampler'}, {'type': 'IoUBalancedNegSampler'}, **kw),
         OHEMSampler]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def assigned(positives, negatives, ignored, N=400, G=5):
    """Images with so many positives, negatives and ignored priors (the rest is ignored too), in random places."""
    rows = []
    for p, n, _ in zip(positives, negatives, ignored, strict=True):
        kind = torch.tensor([1] * p + [0] * n + [2] * (N - p - n))
        rows.append(kind[torch.randperm(N)])
    kind = torch.stack(rows)
    return Assignment(torch.randint(G, kind.shape), kind == 1, kind == 2, torch.rand(kind.shape))


def counts(a):
    return a.positive.sum(1).tolist(), (~(a.positive | a.ignored)).sum(1).tolist()


def run(sampler, assignment):
    return sampler(assignment, torch.rand(assignment.score.shape)) if sampler.needs_losses else sampler(assignment)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(('ub', 'expected'), [(-1, ([25, 10, 0, 3], [75, 90, 100, 20])),
                                              (3, ([25, 10, 0, 3], [75, 30, 3, 9]))])
def test_budgets_hold_in_every_image(kind, ub, expected):
    before = assigned([60, 10, 0, 3], [300, 200, 350, 20], [40, 190, 50, 377])
    after = run(kind(num=100, pos_fraction=0.25, neg_pos_ub=ub), before)
    assert counts(after) == expected
    assert not (after.positive & ~before.positive).any() and not (~after.ignored & before.ignored).any()
    assert not (after.positive & after.ignored).any() and torch.equal(after.gt, before.gt)


@pytest.mark.parametrize('kind', KINDS)
def test_a_budget_beyond_the_priors_keeps_them_all(kind):
    before = assigned([60, 0], [300, 400], [40, 0])
    after = run(kind(num=10 ** 7, pos_fraction=0.5), before)
    assert torch.equal(after.positive, before.positive) and torch.equal(after.ignored, before.ignored)


@pytest.mark.parametrize('kind', KINDS)
def test_no_priors_are_no_error(kind):
    empty = Assignment(*(torch.zeros(2, 0, dtype=t) for t in (torch.long, torch.bool, torch.bool, torch.float)))
    assert run(kind(num=8, pos_fraction=0.5), empty).gt.shape == (2, 0)


def test_the_pseudo_sampler_keeps_everything():
    before = assigned([5], [9], [3])
    assert PseudoSampler()(before) is before and PseudoSampler().num is None


def test_chance_is_fair():
    """Of 40 candidates 10 are drawn 400 times: each comes 100 times on average, with a deviation of 8.7."""
    candidates = torch.arange(60).expand(400, 60) < 40
    times = draw(candidates, 10, 10).sum(0)
    assert times[40:].sum() == 0 and times.sum() == 4000 and ((times[:40] - 100).abs() < 5 * 8.7).all()


def test_each_image_has_its_own_count():
    candidates = torch.ones(3, 7, dtype=torch.bool)
    assert draw(candidates, tensor([0, 3, 9]), 9).sum(1).tolist() == [0, 3, 7]


def test_ranks_number_the_candidates_of_each_group():
    group = tensor([[2, 0, 2, 2, 0, 1], [0, 0, 0, 0, 0, 0]])
    candidates = tensor([[True, True, True, False, True, False], [False] * 6])
    rank, groups = random_rank(group, candidates)
    assert groups.tolist() == [2, 0]
    assert sorted(rank[0, [0, 2]].tolist()) == [0, 1] and sorted(rank[0, [1, 4]].tolist()) == [0, 1]
    assert rank[0, [3, 5]].tolist() == [6, 6] and rank[1].tolist() == [6] * 6


def test_objects_give_equally_many_positives():
    gt = tensor([[0] * 90 + [1] * 6 + [2] * 4])
    positive = torch.ones_like(gt, dtype=torch.bool)
    before = Assignment(gt, positive, ~positive, torch.ones(1, 100))
    after = InstanceBalancedPosSampler(num=18, pos_fraction=1.0)(before)
    taken = gt[after.positive].bincount(minlength=3).tolist()
    # a quota of round(18 / 3) + 1 = 7: the first object gives 7 and one more, as the others have but 6 and 4
    assert taken == [8, 6, 4]


def test_negatives_come_evenly_from_all_overlaps():
    """Of 300 overlaps 270 lie in the lowest third, 20 in the middle one, 10 in the highest."""
    low, middle, high = torch.rand(270) * 0.09, 0.11 + torch.rand(20) * 0.08, 0.21 + torch.rand(9) * 0.08
    overlap = torch.cat([low, middle, high, tensor([0.3])])[None]
    nothing = torch.zeros_like(overlap, dtype=torch.bool)
    before = Assignment(nothing.long(), nothing, nothing, overlap)
    after = IoUBalancedNegSampler(num=30, pos_fraction=0.25, num_bins=3)(before)
    kept = overlap[~after.ignored]
    assert len(kept) == 30 and (kept < 0.1).sum() == 10 and ((kept > 0.1) & (kept < 0.2)).sum() == 10
    assert (kept > 0.2).sum() == 10


def test_a_fraction_of_the_negatives_comes_from_below_the_floor():
    overlap = torch.cat([torch.zeros(200), torch.full((200,), 0.3)])[None]
    nothing = torch.zeros_like(overlap, dtype=torch.bool)
    sampler = IoUBalancedNegSampler(num=40, pos_fraction=0.25, floor_thr=0.1, floor_fraction=0.25, num_bins=1)
    kept = overlap[~sampler(Assignment(nothing.long(), nothing, nothing, overlap)).ignored]
    assert (kept == 0).sum() == 10 and len(kept) == 40


def test_the_hardest_are_kept():
    loss = tensor([[5., 1., 3., 9., 2., 7., 8., float('nan')]])
    before = Assignment(torch.zeros(1, 8, dtype=torch.long), tensor([[True] * 3 + [False] * 5]),
                        tensor([[False] * 7 + [True]]), torch.zeros(1, 8))
    after = OHEMSampler(num=4, pos_fraction=0.5)(before, loss)
    assert after.positive.tolist() == [[True, False, True] + [False] * 5]
    assert (~(after.positive | after.ignored)).tolist() == [[False, False, False, True, False, False, True, False]]


def test_local_ranks_come_before_scores():
    """Two groups of overlapping boxes and one alone: the firsts by score, then the seconds, then the third."""
    boxes = tensor([[0., 0., 10., 10.], [0., 0., 10., 9.], [50., 50., 60., 60.], [50., 50., 60., 59.],
                    [0., 0., 10., 8.], [90., 90., 99., 99.], [20., 20., 25., 25.]])
    scores = tensor([0.9, 0.8, 0.5, 0.7, 0.6, 0.3, 0.99])
    ranked = tensor([True] * 6 + [False])
    assert hierarchical_local_rank(boxes, scores, ranked, 0.5).tolist() == [0, 3, 4, 1, 5, 2, 7]


def test_prime_negatives_weigh_by_rank_and_their_loss_stays():
    boxes = torch.arange(6)[:, None] * 20. + tensor([[0., 0., 10., 10.]])    # all apart: rank is by score
    scores = tensor([[0.9, 0.5, 0.7, 0.01, 0.02, 0.9]])
    loss = tensor([[1., 2., 3., 4., 5., 6.]])
    nothing = torch.zeros(1, 6, dtype=torch.bool)
    positive = tensor([[False] * 5 + [True]])
    sampler = ScoreHLRSampler(num=5, pos_fraction=0.2, k=1.0)
    after, weight = sampler(Assignment(nothing.long(), positive, nothing, torch.zeros(1, 6)), loss, scores, boxes[None])
    negative = ~(after.positive | after.ignored)
    assert negative[0, :3].all() and negative[0, 3:5].sum() == 1 and after.positive.tolist() == positive.tolist()
    assert weight[0, 5] == 1 and (weight[0][after.ignored[0]] == 0).all()
    ratio = weight[0] / weight[0, 0]    # four are taken: (4 - rank) / 4, and the one without a rank as the last of them
    assert ratio[:3].tolist() == pytest.approx([1, 2 / 4, 3 / 4])
    assert ratio[3:5][negative[0, 3:5]].tolist() == pytest.approx([2 / 4])
    assert (weight * loss)[negative].sum().item() == pytest.approx(loss[negative].sum().item(), rel=1e-5)
