"""CenterNet's targets, losses and detections against loops written from the papers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from omnidet.models.dense_heads.keypoint.centernet_head import CenterNetHead
from omnidet.models.parts.heatmaps import BUDGET, gaussian_heatmap, gaussian_radius, local_maxima, top_peaks
from omnidet.models.parts.losses.gaussian_focal import GaussianFocalLoss
from omnidet.structures import ImageMeta, Targets

K = 3
TEST = {'topk': 10, 'local_maximum_kernel': 3, 'max_per_img': 10}


def random_targets(counts, size=64, seed=0, crowds=0):
    g = torch.Generator().manual_seed(seed)
    items = []
    for n in counts:
        corner, side = torch.rand(n, 2, generator=g) * size * 0.7, torch.rand(n, 2, generator=g) * size * 0.3 + 0.5
        ignore = torch.zeros(n, dtype=torch.bool)
        ignore[:min(crowds, n)] = True
        items.append({'boxes': torch.cat([corner, corner + side], 1), 'ignore': ignore,
                      'labels': torch.randint(0, K, (n,), generator=g)})
    return Targets.collate(items, (size, size)), items


def iou(a, b):
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


@pytest.mark.parametrize('w, h', [(10, 10), (30, 7), (3, 50)])
@pytest.mark.parametrize('overlap', [0.3, 0.5, 0.7])
def test_radius_is_how_far_corners_may_move_until_the_iou_is_reached(w, h, overlap):
    """Found by halving an interval, for both corners moving outwards, inwards and to one side."""
    box, found = (0, 0, w, h), []
    for a, b in ((-1, 1), (1, -1), (1, 1)):
        low, high = 0.0, float(max(w, h)) if (a, b) == (-1, 1) else min(w, h) / (2 if b < 0 else 1)
        for _ in range(60):
            r = (low + high) / 2
            moved = (a * r, a * r, w + b * r, h + b * r)
            low, high = (r, high) if iou(box, moved) > overlap else (low, r)
        found.append(low)
    got = gaussian_radius(torch.tensor(float(h)), torch.tensor(float(w)), overlap)
    assert got.item() == pytest.approx(min(found), rel=1e-4)


def naive_targets(item, size):
    """{(class, y, x): heat}, and {(y, x): (w, h, dx, dy)} of one image; later objects overwrite earlier ones."""
    side = size // 4
    heat, at = torch.zeros(K, side, side), {}
    for box, label, ignore in zip(item['boxes'].tolist(), item['labels'].tolist(), item['ignore'].tolist()):
        if ignore:
            continue
        x1, y1, x2, y2 = (v / 4 for v in box)
        cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        r = int(gaussian_radius(torch.tensor(h), torch.tensor(w), 0.3))
        sigma = (2 * r + 1) / 6
        for y in range(max(0, int(cy) - r), min(side, int(cy) + r + 1)):
            for x in range(max(0, int(cx) - r), min(side, int(cx) + r + 1)):
                value = math.exp(-((x - int(cx)) ** 2 + (y - int(cy)) ** 2) / (2 * sigma ** 2))
                heat[label, y, x] = max(heat[label, y, x].item(), value)
        at[int(cy), int(cx)] = (w, h, cx - int(cx), cy - int(cy))
    return heat, at


@pytest.mark.parametrize('counts, crowds', [((3, 1), 0), ((0, 0), 0), ((300, 5), 0), ((4, 2), 1)])
def test_losses_equal_a_loop_over_objects_and_pixels(counts, crowds):
    torch.manual_seed(0)
    targets, items = random_targets(counts, crowds=crowds)
    head = CenterNetHead(4, 8, K)
    out = {'heat': torch.rand(2, K, 16, 16), 'wh': torch.randn(2, 2, 16, 16), 'offset': torch.randn(2, 2, 16, 16)}
    heats, places = zip(*(naive_targets(item, 64) for item in items))
    heat = torch.stack(heats)
    total = max((heat == 1).sum().item(), 1)
    p = out['heat']
    focal = torch.where(heat == 1, -p.log() * (1 - p) ** 2, -(1 - p).log() * p ** 2 * (1 - heat) ** 4).sum() / total
    wh = offset = 0.0
    for b, place in enumerate(places):
        for (y, x), (w, h, dx, dy) in place.items():
            wh += (out['wh'][b, :, y, x] - torch.tensor([w, h])).abs().sum().item()
            offset += (out['offset'][b, :, y, x] - torch.tensor([dx, dy])).abs().sum().item()
    got = head.losses(out, targets)
    assert got['loss_center_heatmap'].item() == pytest.approx(focal.item(), rel=1e-4)
    assert got['loss_wh'].item() == pytest.approx(0.1 * wh / (2 * total), rel=1e-4)
    assert got['loss_offset'].item() == pytest.approx(offset / (2 * total), rel=1e-4)


def test_gaussians_do_not_depend_on_how_many_objects_are_drawn_at_once(monkeypatch):
    targets, _ = random_targets((40, 7))
    cell = (targets.boxes[..., :2] / 4).long()
    radius = torch.arange(40).expand(2, -1) % 6
    args = (cell, radius, targets.labels, targets.valid, K, (16, 16))
    whole = gaussian_heatmap(*args)
    assert BUDGET > 2 * 40 * 256
    monkeypatch.setattr('omnidet.models.parts.heatmaps.BUDGET', 2 * 256 * 3)
    assert torch.equal(gaussian_heatmap(*args), whole)


def test_padding_of_the_ground_truth_changes_nothing():
    torch.manual_seed(0)
    targets, _ = random_targets((3, 1))
    more, _ = random_targets((3, 30))
    more.boxes[1, 1:], more.valid[1, 1:] = 999, False
    more.boxes[:, :3], more.labels[:, :3], more.valid[:, :3] = targets.boxes, targets.labels, targets.valid
    head = CenterNetHead(4, 8, K)
    feats = (torch.randn(2, 4, 16, 16),)
    a, b = head.loss(feats, targets), head.loss(feats, more)
    for k in a:
        torch.testing.assert_close(a[k], b[k])


def test_the_loss_compiles_whole():
    torch.manual_seed(0)
    targets, _ = random_targets((2, 3))
    head, feats = CenterNetHead(4, 8, K), (torch.randn(2, 4, 16, 16),)
    whole = torch.compile(head.loss, fullgraph=True, backend='aot_eager')(feats, targets)
    for k, plain in head.loss(feats, targets).items():
        torch.testing.assert_close(whole[k], plain)


def test_the_loss_never_waits_for_the_device():
    """On the meta device there is nothing to wait for: reading a value or asking how many are positive would raise."""
    head, targets = CenterNetHead(4, 8, K).to('meta'), random_targets((2, 3))[0].to('meta')
    assert {v.shape for v in head.loss((torch.zeros(2, 4, 16, 16, device='meta'),), targets).values()} == {()}


@pytest.mark.parametrize('counts', [(2, 3), (0, 0)])
def test_gradients_stay_finite_where_scores_are_sure(counts):
    head, feats = CenterNetHead(4, 8, K), (torch.randn(2, 4, 16, 16) * 1e4,)
    sum(head.loss(feats, random_targets(counts)[0]).values()).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_a_peak_becomes_its_box_in_pixels_of_the_file():
    head = CenterNetHead(4, 8, K, test_cfg=TEST).eval()
    heat, wh, offset = torch.zeros(1, K, 16, 16), torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16)
    heat[0, 2, 5, 7], heat[0, 2, 5, 8], heat[0, 1, 5, 8] = 0.9, 0.8, 0.7    # the second is no peak, the third is
    wh[0, :, 5, 7], offset[0, :, 5, 7] = torch.tensor([4.0, 2.0]), torch.tensor([0.25, 0.5])
    head.forward = lambda feats: {'heat': heat, 'wh': wh, 'offset': offset}
    meta = ImageMeta((64, 64), (28, 28), (2.0, 2.0), offset=(4, 2))
    result, = head.predict((), [meta])
    x, y = 7.25 * 4, 5.5 * 4
    want = [(x - 8 - 4) / 2, (y - 4 - 2) / 2, (x + 8 - 4) / 2, (y + 4 - 2) / 2]
    assert result.boxes[0].tolist() == pytest.approx(want)
    assert result.scores[:3].tolist() == pytest.approx([0.9, 0.7, 0.0])
    assert result.labels[:2].tolist() == [2, 1]
    assert len(result) == 10
    assert head.predict((), [meta], rescale=False)[0].boxes[0].tolist() == pytest.approx([x - 8, y - 4, x + 8, y + 4])


def test_local_maxima_are_those_of_a_loop_over_windows():
    torch.manual_seed(0)
    heat = torch.rand(2, K, 6, 7)
    got, padded = local_maxima(heat, 3), F.pad(heat, (1, 1, 1, 1), value=-1)
    for b, k, y, x in torch.cartesian_prod(*map(torch.arange, heat.shape)).tolist():
        v = heat[b, k, y, x]
        assert got[b, k, y, x] == (v if v == padded[b, k, y:y + 3, x:x + 3].max() else 0)


def test_fewer_places_than_peaks_asked_for():
    assert top_peaks(torch.rand(1, 1, 2, 3), 10).at.shape == (1, 6)


def test_gaussian_focal_loss_weighs_its_two_cases_and_survives_certainty():
    loss = GaussianFocalLoss(pos_weight=2.0, neg_weight=3.0, loss_weight=0.5, reduction='sum')
    p, y = torch.tensor([0.2, 0.2, 0.9]), torch.tensor([1.0, 0.5, 0.0])
    want = 0.5 * (2 * -math.log(0.2) * 0.64 + 3 * (-math.log(0.8) * 0.04 * 0.5 ** 4 - math.log(0.1) * 0.81))
    assert loss(p, y).item() == pytest.approx(want, rel=1e-5)
    sure = torch.tensor([0.0, 1.0], requires_grad=True)
    loss(sure, torch.tensor([1.0, 0.0])).backward()
    assert sure.grad.isfinite().all()
