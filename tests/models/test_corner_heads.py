"""CornerNet's and CentripetalNet's targets, losses and detections against loops written from the papers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import omnidet
from omnidet.errors import ConfigError
from omnidet.models.dense_heads.keypoint.centripetal_head import LEAST_SHIFT, CentripetalHead
from omnidet.models.dense_heads.keypoint.corner_head import CornerHead
from omnidet.models.dense_heads.keypoint.layers import BiCornerPool
from omnidet.models.parts.corners import share_a_center
from omnidet.models.parts.heatmaps import gaussian_radius
from omnidet.models.parts.losses.associative_embedding import AssociativeEmbeddingLoss
from omnidet.nn.deform_conv import DeformConv2d
from omnidet.ops.nms import soft_nms
from omnidet.structures import ImageMeta, Targets

K, SIZE, MAP = 3, (63, 79), (16, 20)    # a cell has 63 / 16 by 79 / 20 pixels
CELL = (SIZE[1] / MAP[1], SIZE[0] / MAP[0])
TEST = {'corner_topk': 12, 'local_maximum_kernel': 3, 'distance_threshold': 0.5, 'score_thr': 0.05, 'max_per_img': 20,
        'nms': {'type': 'soft_nms', 'iou_threshold': 0.5, 'method': 'gaussian'}}
HEADS = (CornerHead, CentripetalHead)
COUNTS = (((3, 1), 0), ((0, 0), 0), ((300, 5), 0), ((4, 2), 1))


def random_targets(counts, seed=0, crowds=0):
    g = torch.Generator().manual_seed(seed)
    size, items = torch.tensor([SIZE[1], SIZE[0]]), []
    for n in counts:
        corner = torch.rand(n, 2, generator=g) * size * 0.7
        boxes = torch.cat([corner, corner + torch.rand(n, 2, generator=g) * size * 0.3 + 0.5], 1)
        ignore = torch.zeros(n, dtype=torch.bool)
        ignore[:min(crowds, n)] = True
        items.append({'boxes': boxes, 'ignore': ignore, 'labels': torch.randint(0, K, (n,), generator=g)})
    return Targets.collate(items, SIZE), items


def random_out(head, levels=2, batch=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    channels = {'heat': K, 'off': 2, **({'emb': 1} if head is CornerHead else {'guide': 2, 'shift': 2})}
    return {f'{side}_{name}': torch.randn(levels, batch, c, *MAP, generator=g)
            for side in ('tl', 'br') for name, c in channels.items()}


def objects_of(item):
    """(label, (left, top, right, bottom) in cells) of each object of an image."""
    for box, label, ignore in zip(item['boxes'].tolist(), item['labels'].tolist(), item['ignore'].tolist()):
        if not ignore:
            yield label, [v / CELL[i % 2] for i, v in enumerate(box)]


def cell_of(x, y):
    return min(int(y), MAP[0] - 1), min(int(x), MAP[1] - 1)


def naive_targets(item):
    """For each side, {'heat': (K, H, W), 'at': {(y, x): what an object has there}}; later objects overwrite earlier."""
    sides = {side: {'heat': torch.zeros(K, *MAP), 'at': {}} for side in ('tl', 'br')}
    for label, (x1, y1, x2, y2) in objects_of(item):
        r = int(gaussian_radius(torch.tensor(float(math.ceil(y2 - y1))), torch.tensor(float(math.ceil(x2 - x1))), 0.3))
        cx, cy, sigma = (x1 + x2) / 2, (y1 + y2) / 2, (2 * r + 1) / 6
        for side, (x, y), sign in (('tl', (x1, y1), 1), ('br', (x2, y2), -1)):
            row, col = cell_of(x, y)
            heat = sides[side]['heat'][label]
            for i in range(max(0, row - r), min(MAP[0], row + r + 1)):
                for j in range(max(0, col - r), min(MAP[1], col + r + 1)):
                    heat[i, j] = max(heat[i, j].item(), math.exp(-((i - row) ** 2 + (j - col) ** 2) / (2 * sigma ** 2)))
            way = [max(sign * (cx - x), LEAST_SHIFT), max(sign * (cy - y), LEAST_SHIFT)]
            sides[side]['at'][row, col] = {'off': [x - col, y - row], 'guide': [sign * (cx - col), sign * (cy - row)],
                                           'shift': [math.log(v) for v in way]}
    return sides


def naive_map_loss(out, truth, name):
    """Smooth L1 at the corners' cells: meaned over the cells of a side, over the sides, added up over the levels."""
    total = 0.0
    for side in ('tl', 'br'):
        count = max(sum(len(t[side]['at']) for t in truth), 1)
        for maps in out[f'{side}_{name}']:
            for pred, t in zip(maps, truth):
                for (row, col), value in t[side]['at'].items():
                    target = torch.tensor(value[name])
                    total += F.smooth_l1_loss(pred[:, row, col], target, reduction='sum').item() / count / 2
    return total


def naive_det_loss(out, truth):
    total = 0.0
    for side in ('tl', 'br'):
        y = torch.stack([t[side]['heat'] for t in truth])
        for logits in out[f'{side}_heat']:
            p = logits.sigmoid()
            loss = torch.where(y == 1, -p.log() * (1 - p) ** 2, -(1 - p).log() * p ** 2 * (1 - y) ** 4)
            total += loss.sum().item() / max((y == 1).sum().item(), 1) / 2
    return total


def naive_embedding_losses(out, items):
    pull = push = 0.0
    for tl_maps, br_maps in zip(out['tl_emb'], out['br_emb']):
        for tl, br, item in zip(tl_maps, br_maps, items):
            pairs = []
            for _, (x1, y1, x2, y2) in objects_of(item):
                (r1, c1), (r2, c2) = cell_of(x1, y1), cell_of(x2, y2)
                pairs.append((tl[0, r1, c1].item(), br[0, r2, c2].item()))
            means = [(a + b) / 2 for a, b in pairs]
            n = len(pairs)
            pull += sum((a - m) ** 2 + (b - m) ** 2 for (a, b), m in zip(pairs, means)) / max(n, 1)
            push += sum(max(0, 1 - abs(means[j] - means[k])) for j in range(n) for k in range(n) if j != k) \
                / max(n * (n - 1), 1)
    return pull, push


@pytest.mark.parametrize('counts, crowds', COUNTS)
def test_corner_losses_equal_loops_over_levels_images_and_objects(counts, crowds):
    targets, items = random_targets(counts, crowds=crowds)
    out, truth = random_out(CornerHead), [naive_targets(item) for item in items]
    got = CornerHead(K, 8).losses(out, targets, CELL)
    pull, push = naive_embedding_losses(out, items)
    want = {'det_loss': naive_det_loss(out, truth), 'off_loss': naive_map_loss(out, truth, 'off'),
            'pull_loss': 0.25 * pull, 'push_loss': 0.25 * push}
    assert {k: v.item() for k, v in got.items()} == pytest.approx(want, rel=1e-4, abs=1e-6)
    assert sum(counts) == crowds or want['off_loss'] > 0


@pytest.mark.parametrize('counts, crowds', COUNTS)
def test_centripetal_losses_equal_loops_over_levels_images_and_objects(counts, crowds):
    targets, items = random_targets(counts, crowds=crowds)
    out, truth = random_out(CentripetalHead), [naive_targets(item) for item in items]
    got = CentripetalHead(K, 8).losses(out, targets, CELL)
    want = {'det_loss': naive_det_loss(out, truth), 'off_loss': naive_map_loss(out, truth, 'off'),
            'guiding_loss': 0.05 * naive_map_loss(out, truth, 'guide'),
            'centripetal_loss': naive_map_loss(out, truth, 'shift')}
    assert {k: v.item() for k, v in got.items()} == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_embedding_loss_of_hand_worked_pairs():
    tl = torch.tensor([[1.0, 3.0, 9.0], [2.0, 0.0, 0.0]])[..., None]
    br = torch.tensor([[2.0, 2.0, 9.0], [4.0, 0.0, 0.0]])[..., None]
    valid = torch.tensor([[True, True, False], [True, False, False]])
    # means 1.5 and 2.5; their distance is the margin. 4 * 0.5^2 / 2 objects, and 2 * 1^2 / 1 object
    pull, push = AssociativeEmbeddingLoss(0.5, 3.0)(tl, br, valid)
    assert (pull.item(), push.item()) == pytest.approx((0.5 * 2.5, 0.0))
    # means 1.5 and 1.75: two ordered pairs, each 0.75 short, over 2 * 1
    br[0, 1] = 0.5
    assert AssociativeEmbeddingLoss(0.5, 3.0)(tl, br, valid)[1].item() == pytest.approx(3 * 0.75)


def feats(scale=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 8, *MAP, generator=g) * scale for _ in range(2))


@pytest.mark.parametrize('kind', HEADS)
def test_padding_of_the_ground_truth_changes_nothing(kind):
    torch.manual_seed(0)
    targets, _ = random_targets((3, 1))
    more, _ = random_targets((3, 30))
    more.boxes[1, 1:], more.valid[1, 1:] = 999, False
    more.boxes[:, :3], more.labels[:, :3], more.valid[:, :3] = targets.boxes, targets.labels, targets.valid
    head = kind(K, 8).eval()
    a, b = head.loss(feats(), targets, SIZE), head.loss(feats(), more, SIZE)
    for k in a:
        torch.testing.assert_close(a[k], b[k])


@pytest.mark.parametrize('kind', HEADS)
def test_the_loss_compiles_whole(kind):
    torch.manual_seed(0)
    targets, head = random_targets((2, 3))[0], kind(K, 8).eval()
    whole = torch.compile(head.loss, fullgraph=True, backend='aot_eager')(feats(), targets, SIZE)
    for k, plain in head.loss(feats(), targets, SIZE).items():
        torch.testing.assert_close(whole[k], plain)


@pytest.mark.parametrize('kind', HEADS)
def test_the_loss_never_waits_for_the_device(kind):
    """On the meta device there is nothing to wait for: reading a value or asking how many are positive would raise."""
    head, targets = kind(K, 8).to('meta'), random_targets((2, 3))[0].to('meta')
    maps = tuple(torch.zeros(2, 8, *MAP, device='meta') for _ in range(2))
    assert {v.shape for v in head.loss(maps, targets, SIZE).values()} == {()}


POINT = [[5.0, 6.0, 6.0, 7.0], [5.0, 6.0, 5.0, 6.0], [0.0, 0.0, 79.0, 63.0], [78.9, 62.9, 79.0, 63.0]]


@pytest.mark.parametrize('kind', HEADS)
@pytest.mark.parametrize('boxes', [[], POINT])
@pytest.mark.parametrize('scale', [1.0, 1e4])
def test_losses_and_gradients_are_finite_without_objects_and_with_objects_of_a_point(kind, boxes, scale):
    torch.manual_seed(0)
    item = {'boxes': torch.tensor(boxes).reshape(-1, 4), 'labels': torch.zeros(len(boxes), dtype=torch.long)}
    empty = {'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0, dtype=torch.long), 'size': (40, 50)}
    head = kind(K, 8).eval()    # norms that do not take the scale away again
    total = sum(head.loss(feats(scale), Targets.collate([item, empty], SIZE), SIZE).values())
    total.backward()
    assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def naive_corners(heat, off):
    """The best peaks of a map of logits: (score, label, row, col, x, y in cells), best first."""
    p, found = heat.sigmoid(), []
    padded = F.pad(p, (1, 1, 1, 1), value=-1)
    for c in range(K):
        for i in range(MAP[0]):
            for j in range(MAP[1]):
                if p[c, i, j] == padded[c, i:i + 3, j:j + 3].max():
                    found.append((p[c, i, j].item(), c, i, j, j + off[0, i, j].item(), i + off[1, i, j].item()))
    return sorted(found, reverse=True)[:TEST['corner_topk']]


def naive_detections(out, b, origin, fits):
    """(score, label, box in pixels of the batch) of every pair that may be an object, best first."""
    tl, br = (naive_corners(out[f'{s}_heat'][-1, b], out[f'{s}_off'][-1, b]) for s in ('tl', 'br'))

    def pixels(x, y):
        return max(x * CELL[0], origin[0]), max(y * CELL[1], origin[1])
    found = []
    for a in tl:
        for c in br:
            box = (*pixels(*a[4:]), *pixels(*c[4:]))
            if a[1] == c[1] and box[0] < box[2] and box[1] < box[3] and fits(a, c, box, pixels):
                found.append(((a[0] + c[0]) / 2, a[1], box))
    return sorted(found, reverse=True)


def like_embeddings(out, b):
    def fits(a, c, box, pixels):
        return abs(out['tl_emb'][-1, b, 0, a[2], a[3]] - out['br_emb'][-1, b, 0, c[2], c[3]]) <= 0.5
    return fits


def common_center(out, b):
    def fits(a, c, box, pixels):
        x1, y1 = pixels(*(v + out['tl_shift'][-1, b, i, a[2], a[3]].exp().item() for i, v in enumerate(a[4:])))
        x2, y2 = pixels(*(v - out['br_shift'][-1, b, i, c[2], c[3]].exp().item() for i, v in enumerate(c[4:])))
        w, h = box[2] - box[0], box[3] - box[1]
        share = 1 / 2.1 if w * h > 3500 else 1 / 2.4
        left, right = (box[0] + box[2] - share * w) / 2, (box[0] + box[2] + share * w) / 2
        top, bottom = (box[1] + box[3] - share * h) / 2, (box[1] + box[3] + share * h) / 2
        inside = left < x1 < right and left < x2 < right and top < y1 < bottom and top < y2 < bottom
        return inside and abs((x2 - x1) * (y2 - y1)) <= 0.5 * (right - left) * (bottom - top)
    return fits


PLANTED = ((0, (2, 3, 9, 12)), (1, (4, 2, 17, 14)), (1, (3, 6, 5, 8)), (2, (1, 1, 18, 13)))
"""Labels and boxes, in cells."""


def planted(kind):
    """Random maps with some pairs in them that fit, so that there is something to find."""
    out = random_out(kind, levels=1)
    for b in range(2):
        for label, (x1, y1, x2, y2) in PLANTED:
            for side, x, y in (('tl', x1, y1), ('br', x2, y2)):
                out[f'{side}_heat'][0, b, label, y, x] = 3 + 0.1 * x1 + 0.01 * y1
                if kind is CornerHead:
                    out[f'{side}_emb'][0, b, 0, y, x] = 3.0 * x1 + (0.3 if side == 'br' else 0)
                else:
                    out[f'{side}_shift'][0, b, :, y, x] = torch.tensor([x2 - x1, y2 - y1]).div(2).log()
    return out


@pytest.mark.parametrize('kind, rule', [(CornerHead, like_embeddings), (CentripetalHead, common_center)])
@pytest.mark.parametrize('maps', [random_out, planted])
def test_pairs_are_those_of_a_loop_over_corners(kind, rule, maps):
    head = kind(K, 8, test_cfg=TEST)
    out, origin = maps(kind), torch.tensor([[0.0, 0.0], [6.0, 4.0]])
    boxes, scores, labels = head.decode(out, CELL, origin)
    for b in range(2):
        want = naive_detections(out, b, origin[b].tolist(), rule(out, b))
        real = scores[b] >= 0
        assert real.sum() == len(want) and (maps is random_out or len(want) >= 3)
        torch.testing.assert_close(scores[b][real], torch.tensor([w[0] for w in want]))
        assert labels[b][real].tolist() == [w[1] for w in want]
        torch.testing.assert_close(boxes[b][real], torch.tensor([w[2] for w in want]).reshape(-1, 4))
        assert (scores[b][~real] == -1).all()


@pytest.mark.parametrize('kind, rule', [(CornerHead, like_embeddings), (CentripetalHead, common_center)])
def test_detections_are_pairs_after_suppression_in_pixels_of_the_file(kind, rule):
    head = kind(K, 8, test_cfg=TEST).eval()
    out, seen = planted(kind), []
    head.forward = lambda feats: seen.append(len(feats)) or out
    metas = [ImageMeta(SIZE, SIZE), ImageMeta(SIZE, (29, 36), (2.0, 2.0), offset=(6, 4))]
    results = head.predict(feats(), metas, size=SIZE)
    assert seen == [1]    # the last map alone predicts
    for b, (result, meta) in enumerate(zip(results, metas, strict=True)):
        want = naive_detections(out, b, meta.offset, rule(out, b))
        boxes = torch.tensor([w[2] for w in want]) - torch.tensor(meta.offset * 2)
        boxes = boxes / torch.tensor(meta.scale_factor * 2)
        kept = soft_nms(boxes, torch.tensor([w[0] for w in want]), torch.tensor([w[1] for w in want]), 20,
                        iou_threshold=0.5, method='gaussian')
        torch.testing.assert_close(result.scores, kept.scores)
        torch.testing.assert_close(result.boxes, boxes[kept.keep])
        assert (result.boxes >= 0).all()


def test_centers_must_lie_in_the_central_region_and_near_each_other():
    boxes = torch.tensor([[0.0, 0.0, 42.0, 42.0]]).expand(5, 4)    # 1764 px: the region is 12.25 to 29.75
    centers = torch.tensor([[20.0, 20.0, 22.0, 22.0], [12.0, 20.0, 22.0, 22.0], [20.0, 20.0, 22.0, 30.0],
                            [13.0, 13.0, 29.0, 29.0], [13.0, 20.0, 29.0, 21.0]])
    assert share_a_center(boxes, centers, 0.5).tolist() == [True, False, False, False, True]
    large = boxes[:1] * 2    # 7056 px: 22 to 62, where 1 / 2.4 would be 24.5 to 59.5
    assert share_a_center(large, torch.tensor([[23.0, 40.0, 42.0, 42.0]]), 0.5).tolist() == [True]


def test_adaption_looks_where_the_guiding_shift_says_and_teaches_it_nothing():
    torch.manual_seed(0)
    head = CentripetalHead(K, 8, num_feat_levels=1).eval()
    for side in ('tl', 'br'):
        torch.nn.init.normal_(getattr(head, f'{side}_feat_adaption')[0].weight)
    map_, = feats()[:1]
    out = head((map_,))
    out['tl_shift'].sum().backward()
    assert all(p.grad is None for p in head.tl_guiding_shift.parameters())
    assert head.tl_dcn_offset[0].conv.weight.grad.abs().sum() > 0 and head.tl_pool[0].conv2.conv.weight.grad is not None
    head.tl_guiding_shift[0][-1].conv.bias.data += 5
    assert not torch.allclose(head((map_,))['tl_shift'], out['tl_shift'])


def test_deformable_convolution_takes_its_samples_at_the_offsets_it_is_given():
    torch.manual_seed(0)
    conv, x = DeformConv2d(2, 3, 3, padding=1), torch.randn(1, 2, 6, 7)
    plain = F.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x, torch.zeros(1, 18, 6, 7)), plain)
    right = torch.zeros(1, 9, 2, 6, 7)
    right[:, :, 1] = 1    # dx of every tap
    torch.testing.assert_close(conv(x, right.flatten(1, 2))[..., :-2], plain[..., 1:-1])


def test_what_is_pooled_in_two_directions_is_added_to_the_map():
    pool = BiCornerPool(1, ('top', 'left'))
    for name in ('direction1_conv', 'direction2_conv', 'aftpool_conv', 'conv1', 'conv2'):
        setattr(pool, name, torch.nn.Identity())
    x = torch.tensor([[1.0, 2.0], [-9.0, 4.0]])[None, None]
    # the greatest downwards [[1, 4], [-9, 4]], to the right [[2, 2], [4, 4]], and the map itself; then a ReLU
    assert pool(x).tolist() == [[[[4.0, 8.0], [0.0, 12.0]]]]


@pytest.mark.parametrize('kind', HEADS)
def test_scores_begin_at_a_tenth(kind):
    torch.manual_seed(0)
    out = kind(K, 8)(feats())
    for name in ('tl_heat', 'br_heat'):
        assert out[name].shape == (2, 2, K, *MAP)
        assert 0.05 < out[name].sigmoid().mean() < 0.2


@pytest.mark.parametrize('make, message', [
    (lambda: CornerHead(K, 8, corner_emb_channels=0), 'CentripetalHead pairs them without'),
    (lambda: CentripetalHead(K, 8, corner_emb_channels=1), 'it must be 0'),
    (lambda: CentripetalHead(K, 8, guiding_shift_channels=4), 'a shift has 2'),
    (lambda: CornerHead(K, 8, num_feat_levels=1)(feats()), 'the backbone gives 2 maps'),
    (lambda: CornerHead(K, 8, test_cfg={'corner_top': 3}), "did you mean 'corner_topk'"),
])
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def small(name):
    """A zoo config's detector with a small backbone."""
    model = omnidet.load_config(name).model
    model.backbone.update(downsample_times=2, stage_channels=[16, 16, 16], stage_blocks=[1, 1, 1], feat_channels=16)
    model.bbox_head.update(in_channels=16, num_classes=K)
    return omnidet.build_model(model)


@pytest.mark.parametrize('name', ['cornernet/cornernet_hourglass104_8xb6', 'centripetalnet/centripetalnet'])
def test_a_detector_learns_an_image_by_heart(name):
    torch.manual_seed(0)
    model = small(name)
    images = torch.zeros(2, 3, 63, 63)
    boxes = torch.tensor([[[8.0, 12.0, 40.0, 50.0]], [[20.0, 6.0, 58.0, 33.0]]])
    for image, ((x1, y1, x2, y2),) in zip(images, boxes.int().tolist()):
        image[:, y1:y2, x1:x2] = 1
    targets = Targets.collate([{'boxes': b, 'labels': torch.tensor([1])} for b in boxes], (63, 63))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.loss(images, targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        model.eval()
        for m in model.modules():    # the running statistics lag behind sixty steps
            if isinstance(m, torch.nn.BatchNorm2d):
                m.momentum = 1.0
                m.train()
        results = model.predict(images, [ImageMeta((63, 63), (63, 63))] * 2)
    for result, box in zip(results, boxes, strict=True):
        assert result.labels[0] == 1 and result.scores[0] > 0.5
        torch.testing.assert_close(result.boxes[0], box[0], atol=1.5, rtol=0)
