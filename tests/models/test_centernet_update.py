"""The head of CenterNet's update against loops over objects and points, written from the paper."""

from __future__ import annotations

import math

import pytest
import torch

from omnidet.models.dense_heads.grid.centernet_update_head import CenterNetUpdateHead
from omnidet.models.parts.center_targets import center_cells, center_targets
from omnidet.models.parts.priors.points import MlvlPointGenerator
from omnidet.ops.boxes import aligned_giou
from omnidet.structures import Targets

K, SIZE, STRIDES = 3, 64, (8, 16)
SHAPES = [(8, 8), (4, 4)]
RANGES = ((0, 16), (10, 1e8))
PRIORS = MlvlPointGenerator(STRIDES)(SHAPES)
POINTS, N = PRIORS.boxes[:, :2].tolist(), 80


def random_targets(counts, seed=0, crowds=0):
    g = torch.Generator().manual_seed(seed)
    items = []
    for n in counts:
        corner, side = torch.rand(n, 2, generator=g) * 40, torch.rand(n, 2, generator=g) * 24 + 1
        ignore = torch.zeros(n, dtype=torch.bool)
        ignore[:min(crowds, n)] = True
        items.append({'boxes': torch.cat([corner, corner + side], 1), 'ignore': ignore,
                      'labels': torch.randint(0, K, (n,), generator=g)})
    return Targets.collate(items, (SIZE, SIZE)), items


def middle(box, stride):
    return tuple((math.floor((a + b) / 2 / stride) + 0.5) * stride for a, b in ((box[0], box[2]), (box[1], box[3])))


def fits(box, level):
    return RANGES[level][0] <= math.hypot(box[2] - box[0], box[3] - box[1]) / 2 <= RANGES[level][1]


def naive(item, min_radius=4, min_overlap=0.8):
    """Heat (K, N) and the object that each point regresses, or None."""
    heat, owner = torch.zeros(K, N), [None] * N
    delta = (1 - min_overlap) / (1 + min_overlap)
    for n, (x, y) in enumerate(POINTS):
        level, best = (0 if n < 64 else 1), math.inf
        stride = STRIDES[level]
        for g, (box, label) in enumerate(zip(item['boxes'].tolist(), item['labels'].tolist())):
            if item['ignore'][g]:
                continue
            mx, my = middle(box, stride)
            d = 0.0 if (mx, my) == (x, y) else (x - (box[0] + box[2]) / 2) ** 2 + (y - (box[1] + box[3]) / 2) ** 2
            d /= max(2 * delta ** 2 * (box[2] - box[0]) * (box[3] - box[1]), min_radius ** 2)
            value = math.exp(-d)
            heat[label, n] = max(heat[label, n].item(), value if value >= 1e-4 else 0.0)
            near = abs(x - mx) <= stride and abs(y - my) <= stride
            if box[0] < x < box[2] and box[1] < y < box[3] and near and fits(box, level) and d < best:
                best, owner[n] = d, g
    return heat, owner


@pytest.mark.parametrize('counts, crowds', [((3, 1), 0), ((0, 0), 0), ((60, 2), 0), ((4, 3), 2)])
def test_targets_equal_a_loop(counts, crowds):
    targets, items = random_targets(counts, crowds=crowds)
    got = center_targets(PRIORS, targets, torch.tensor(RANGES), K, 4, 0.8)
    for b, item in enumerate(items):
        heat, owner = naive(item)
        torch.testing.assert_close(got.heat[b], heat, atol=1e-5, rtol=1e-4)
        assert [g if p else None for g, p in zip(got.gt[b].tolist(), got.positive[b].tolist())] == owner


def test_targets_of_300_objects_do_not_depend_on_how_many_are_taken_at_once(monkeypatch):
    targets, _ = random_targets((300, 7))
    args = (PRIORS, targets, torch.tensor(RANGES), K, 4, 0.8)
    whole = center_targets(*args)
    monkeypatch.setattr('omnidet.models.parts.center_targets.BUDGET', 2 * N * 7)
    for a, b in zip(whole, center_targets(*args)):
        assert torch.equal(a, b)


@pytest.mark.parametrize('counts, crowds', [((3, 1), 0), ((0, 0), 0), ((20, 4), 1)])
def test_points_around_a_middle_equal_a_loop(counts, crowds):
    targets, items = random_targets(counts, crowds=crowds)
    cells = center_cells(PRIORS, targets, torch.tensor(RANGES))
    for b, item in enumerate(items):
        for g in range(targets.boxes.shape[1]):
            real = g < len(item['boxes']) and not item['ignore'][g]
            for level, (stride, (_, w), start) in enumerate(zip(STRIDES, SHAPES, (0, 64))):
                want = {}
                if real:
                    box = item['boxes'][g].tolist()
                    mx, my = middle(box, stride)
                    for i in range(9):
                        x, y = mx + (i % 3 - 1) * stride, my + (i // 3 - 1) * stride
                        if 0 < x < SIZE and 0 < y < SIZE:
                            want[i] = (start + int(y // stride) * w + int(x // stride),
                                       box[0] <= x <= box[2] and box[1] <= y <= box[3], i == 4 and fits(box, level))
                for i in range(9):
                    usable, is_middle = cells.usable[b, g, level, i].item(), cells.middle[b, g, level, i].item()
                    assert (usable, is_middle) == (want.get(i, (0, False, False))[1:])
                    if i in want:
                        assert cells.index[b, g, level, i] == want[i][0]


def head_and_outputs(seed=0, **options):
    torch.manual_seed(seed)
    head = CenterNetUpdateHead(K, 4, RANGES, strides=STRIDES, feat_channels=8, stacked_convs=1,
                               norm_cfg={'type': 'GN', 'num_groups': 2}, **options)
    return head, {'cls': torch.randn(2, N, K), 'reg': torch.rand(2, N, 4) * 12}


@pytest.mark.parametrize('soft, topk', [(False, 3), (True, 9)])
@pytest.mark.parametrize('counts', [(4, 2), (0, 0), (30, 1)])
def test_losses_equal_a_loop(counts, soft, topk):
    targets, items = random_targets(counts)
    head, out = head_and_outputs(more_pos_thresh=0.8, more_pos_topk=topk, soft_weight_on_reg=soft)
    p, pos, neg, count, box_loss, weights = out['cls'].sigmoid(), 0.0, 0.0, 0, 0.0, 0.0
    for b, item in enumerate(items):
        heat, owner = naive(item)
        neg += (-(1 - p[b]).log() * p[b] ** 2 * (1 - heat.T) ** 4).sum().item()
        x, y = PRIORS.boxes[:, :2].unbind(1)
        d = out['reg'][b]
        boxes = torch.stack([x - d[:, 0], y - d[:, 1], x + d[:, 2], y + d[:, 3]], 1)
        for n, g in enumerate(owner):
            if g is not None:
                weight = heat[:, n].max().item() if soft else 1.0
                weights += weight
                box_loss += weight * (1 - aligned_giou(boxes[n], item['boxes'][g])).item()
        for box, label in zip(item['boxes'], item['labels'].tolist()):
            cost = []
            for n, (px, py) in enumerate(POINTS):
                level = 0 if n < 64 else 1
                mx, my = middle(box.tolist(), STRIDES[level])
                if abs(px - mx) > STRIDES[level] or abs(py - my) > STRIDES[level]:
                    continue
                if (px, py) == (mx, my) and fits(box.tolist(), level):
                    cost.append((0.0, n))
                elif box[0] <= px <= box[2] and box[1] <= py <= box[3]:
                    cost.append(((1 - aligned_giou(boxes[n], box)).item(), n))
            cost.sort()
            limit = min(cost[topk - 1][0] if len(cost) >= topk else 1e8, 0.8)
            for c, n in cost:
                if c < limit:
                    q = p[b, n, label].item()
                    pos, count = pos - math.log(q) * (1 - q) ** 2, count + 1
    got = head.loss_of(out, PRIORS, targets)
    assert got['loss_cls'].item() == pytest.approx((0.25 * pos + 0.75 * neg) / max(count, 1), rel=1e-4)
    assert got['loss_bbox'].item() == pytest.approx(2 * box_loss / max(weights, 1), rel=1e-4)
    assert (count > sum(counts)) == (sum(counts) > 0)    # more than the middles


def test_the_loss_compiles_whole():
    head, _ = head_and_outputs()
    targets, _ = random_targets((2, 3))
    feats = [torch.randn(2, 4, *shape) for shape in SHAPES]
    whole = torch.compile(head.loss, fullgraph=True, backend='aot_eager')(feats, targets)
    for k, plain in head.loss(feats, targets).items():
        torch.testing.assert_close(whole[k], plain)


def test_the_loss_never_waits_for_the_device():
    """On the meta device there is nothing to wait for: reading a value or asking how many are positive would raise."""
    head, targets = head_and_outputs()[0].to('meta'), random_targets((2, 3))[0].to('meta')
    feats = [torch.zeros(2, 4, *shape, device='meta') for shape in SHAPES]
    assert {v.shape for v in head.loss(feats, targets).values()} == {()}


@pytest.mark.parametrize('counts', [(2, 3), (0, 0)])
def test_gradients_stay_finite_where_scores_are_sure(counts):
    head, _ = head_and_outputs()
    with torch.no_grad():
        head.conv_cls.weight *= 1e5
    feats = [torch.randn(2, 4, *shape) for shape in SHAPES]
    sum(head.loss(feats, random_targets(counts)[0]).values()).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_ranges_of_sizes_are_no_part_of_a_checkpoint():
    assert not any('ranges' in k for k in head_and_outputs()[0].state_dict())
