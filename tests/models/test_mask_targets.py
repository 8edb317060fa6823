"""What mask heads are to learn: against loops over images, grids and objects."""

from __future__ import annotations

import math

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.models.parts.budget import choose
from omnidet.models.parts.dynamic_masks import DynamicMasks, enlarge_aligned
from omnidet.models.parts.losses.dice import DiceLoss
from omnidet.models.parts.mask_targets import flat_instance
from omnidet.models.parts.solo_targets import grid_targets
from omnidet.structures import Priors, Targets

GRIDS, RANGES, SIZE = [8, 6, 3], ((1, 24), (12, 48), (32, 400)), (96, 128)


def scene(*counts, seed=0, size=SIZE):
    """Ground truth of images with so many objects, ellipses in boxes; some masks are empty."""
    g = torch.Generator().manual_seed(seed)
    h, w = size
    y, x = torch.arange(h)[:, None], torch.arange(w)
    items = []
    for n in counts:
        low = torch.rand(n, 2, generator=g) * torch.tensor([w - 8, h - 8])
        sides = (torch.rand(n, 2, generator=g) * 70 + 4).minimum(torch.tensor([w, h]) - low)
        cx, cy = (low + sides / 2).T[..., None, None]
        rx, ry = (sides / 2).T[..., None, None]
        masks = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
        masks[::17] = False
        items.append({'boxes': torch.cat([low, low + sides], 1), 'labels': torch.randint(5, (n,), generator=g),
                      'masks': masks, 'ignore': torch.arange(n) % 11 == 10})
    return Targets.collate(items, size), items


def by_loops(item, pos_scale, size):
    """{cell: object whose class it has} and [(cell, object)] of the masks, as SOLO's paper tells it."""
    classes, trained, start = {}, [], 0
    for S, (least, most) in zip(GRIDS, RANGES, strict=True):
        for k, (box, mask) in enumerate(zip(item['boxes'], item['masks'], strict=True)):
            w, h = (box[2:] - box[:2]).tolist()
            if item['ignore'][k] or not mask.any() or not least <= math.sqrt(w * h) <= most:
                continue
            y, x = (v.float().mean().item() for v in mask.nonzero().unbind(1))
            spans = []
            for centre, side, extent in ((y, h, size[0]), (x, w, size[1])):
                own = math.floor(centre / extent * S)
                first = max(0, math.floor((centre - side * pos_scale / 2) / extent * S), own - 1)
                last = min(S - 1, math.floor((centre + side * pos_scale / 2) / extent * S), own + 1)
                spans.append(range(first, last + 1))
            for i in spans[0]:
                for j in spans[1]:
                    classes[start + i * S + j] = k
                    trained.append((start + i * S + j, k))
        start += S * S
    return classes, sorted(trained)


@pytest.mark.parametrize('pos_scale', [0.2, 0.9])
@pytest.mark.parametrize('counts', [(0, 0), (1, 0), (5, 3, 9), (300, 2)])
def test_grids_take_the_objects_that_a_loop_gives_them(counts, pos_scale):
    targets, items = scene(*counts)
    got = grid_targets(targets, targets.masks, GRIDS, RANGES, pos_scale, SIZE)
    assert got.gt.shape == (len(counts), sum(s * s for s in GRIDS))
    for b, item in enumerate(items):
        classes, trained = by_loops(item, pos_scale, SIZE)
        assert {n: k for n, k in enumerate(got.gt[b].tolist()) if k >= 0} == classes
        which = torch.arange(got.cell.shape[1]) // got.per_gt
        mine = zip(got.cell[b][got.trained[b]].tolist(), which[got.trained[b]].tolist(), strict=True)
        assert sorted(mine) == trained
        assert bool(classes) == (len(item['boxes']) > 1)    # the first mask is empty


def test_grid_targets_do_not_depend_on_padding():
    targets, items = scene(3, 4)
    longer = Targets.collate([*items, scene(20)[1][0]], SIZE)[:2]
    one, two = (grid_targets(t, t.masks, GRIDS, RANGES, 0.2, SIZE) for t in (targets, longer))
    assert torch.equal(one.gt, two.gt) and one.trained.sum() == two.trained.sum() > 0
    n = one.cell.shape[1]
    assert torch.equal(one.cell, two.cell[:, :n]) and torch.equal(one.trained, two.trained[:, :n])


def test_choice_has_all_candidates_where_there_is_room():
    candidates = torch.rand(3, 20) > 0.7
    candidates[1] = False
    for places in (12, 20, 50):
        index, weight = choose(candidates, places)
        assert index.shape == weight.shape == (3, min(places, 20))
        for b in range(3):
            assert set(index[b][weight[b] > 0].tolist()) == set(candidates[b].nonzero()[:, 0].tolist())
        assert set(weight.unique().tolist()) == {0, 1}


def test_choice_of_few_stands_for_all():
    candidates = torch.ones(2, 50, dtype=torch.bool)
    candidates[1, 3:] = False
    value, found = torch.arange(50.), []
    for _ in range(200):
        index, weight = choose(candidates, 10)
        assert weight[0].tolist() == [5] * 10 and len(index[0].unique()) == 10
        assert sorted(weight[1].tolist()) == [0] * 7 + [1] * 3
        found.append((value[index] * weight).sum(1))
    mean = torch.stack(found).mean(0)
    assert mean[1] == 3 and abs(mean[0] - value.sum()) < 0.05 * value.sum()


def test_flat_instance_counts_through_the_batch():
    assert flat_instance(torch.tensor([[0, 2], [1, 1]]), 3).tolist() == [0, 2, 4, 4]


@pytest.mark.parametrize('factor', [1, 2, 3, 4])
def test_aligned_enlargement_looks_where_it_says(factor):
    x = torch.rand(1, 2, 5, 7)
    got = enlarge_aligned(x, factor)
    assert got.shape == (1, 2, 5 * factor, 7 * factor)

    def line(values, i):
        at = min(max((i - factor // 2) / factor, 0), len(values) - 1)
        low = min(int(at), len(values) - 2)
        return values[low] * (1 - (at - low)) + values[low + 1] * (at - low)
    for i, j in ((0, 0), (1, 3), (5 * factor - 1, 7 * factor - 1), (2 * factor, 3 * factor + 1)):
        rows = [line(row, j) for row in x[0, 1]]
        assert got[0, 1, i, j].item() == pytest.approx(line(rows, i).item(), abs=1e-5)


def test_networks_see_how_far_pixels_lie_before_their_prior():
    """A network of one layer that returns x + 10 y in steps of 2 strides."""
    dynamic = DynamicMasks(channels=3, width=8, layers=1, stride=4, offset=0.5, reach=2.0)
    assert dynamic.num_params == 6
    priors = Priors(torch.tensor([[10., 6, 10, 6], [40., 24, 40, 24]]), torch.tensor([8., 16.]), (1, 1))
    params = torch.tensor([1., 10, 0, 0, 0, 7]).expand(1, 2, 6)
    got = dynamic(torch.randn(1, 3, 4, 5), params, priors, torch.tensor([[1, 0]]))
    x, y = torch.arange(5) * 4 + 2., (torch.arange(4) * 4 + 2.)[:, None]
    want = torch.stack([(40 - x) / 32 + 10 * (24 - y) / 32 + 7, (10 - x) / 16 + 10 * (6 - y) / 16 + 7])
    torch.testing.assert_close(got, want[None])


@pytest.mark.parametrize('naive', [False, True])
def test_dice_loss_is_the_published_one(naive):
    torch.manual_seed(0)
    logits, target = torch.randn(3, 4, 5), torch.rand(3, 4, 5) > 0.5
    got = DiceLoss(naive_dice=naive, eps=0.1, loss_weight=2.0)(logits, target, reduction_override='none')
    for k in range(3):
        p, t = logits[k].sigmoid(), target[k].float()
        both = (p * t).sum()
        want = ((2 * both + 0.1) / (p.sum() + t.sum() + 0.1) if naive else
                2 * both / ((p * p).sum() + 0.1 + (t * t).sum() + 0.1))
        assert got[k].item() == pytest.approx(2 * (1 - want.item()), rel=1e-5)
    loss = DiceLoss(naive_dice=naive, eps=0.1, loss_weight=2.0)
    assert loss(logits, target, torch.tensor([1., 0, 1]), avg_factor=4).item() == pytest.approx(
        ((got[0] + got[2]) / 4).item(), rel=1e-5)


def test_dice_loss_of_probabilities_and_its_refusal():
    p, t = torch.tensor([[1., 0], [0, 0]]), torch.tensor([[1, 0], [0, 1]])
    loss = DiceLoss(activate=False, eps=1e-6, reduction='none')(p, t)
    assert loss.tolist() == pytest.approx([0, 1], abs=1e-5)
    with pytest.raises(ConfigError, match='use_sigmoid'):
        DiceLoss(use_sigmoid=False)
