"""Mask2Former at tiny widths: segments, losses at points, results, padding, compilation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from omnidet import build_model
from omnidet.errors import ConfigError, DatasetError
from omnidet.masks import InstanceMasks
from omnidet.models.dense_heads.query import mask2former_head
from omnidet.models.parts.assigners import hungarian
from omnidet.models.parts.segments import Segments
from omnidet.models.seg_heads.maskformer_fusion_head import MaskFormerFusionHead
from omnidet.structures import ImageMeta, Targets

C, THINGS, STUFF, Q, P = 16, 3, 2, 6, 64
K = THINGS + STUFF
ATTENTION = {'embed_dims': C, 'num_heads': 2, 'dropout': 0.0}
FFN = {'embed_dims': C, 'feedforward_channels': 24, 'ffn_drop': 0.0}


def config(stuff=STUFF, **testing):
    counts = {'num_things_classes': THINGS, 'num_stuff_classes': stuff}
    return {
        'type': 'Mask2Former', 'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 8},
        'panoptic_head': {
            'type': 'Mask2FormerHead', 'in_channels': [8, 16, 32, 64], 'feat_channels': C, 'out_channels': C,
            'num_queries': Q, **counts, 'positional_encoding': {'num_feats': C // 2, 'normalize': True},
            'pixel_decoder': {
                'type': 'MSDeformAttnPixelDecoder', 'norm_cfg': {'type': 'GN', 'num_groups': 4},
                'positional_encoding': {'num_feats': C // 2, 'normalize': True},
                'encoder': {'num_layers': 1, 'layer_cfg': {
                    'self_attn_cfg': {**ATTENTION, 'num_levels': 3, 'num_points': 2}, 'ffn_cfg': FFN}}},
            'transformer_decoder': {'num_layers': 3, 'layer_cfg': {
                'self_attn_cfg': ATTENTION, 'cross_attn_cfg': ATTENTION, 'ffn_cfg': FFN}},
            'loss_cls': {'type': 'CrossEntropyLoss', 'loss_weight': 2.0, 'class_weight': [1.0] * (THINGS + stuff)
                         + [0.1]}},
        'panoptic_fusion_head': {'type': 'MaskFormerFusionHead', **counts},
        'train_cfg': {'num_points': P, 'sampler': {'type': 'MaskPseudoSampler'}, 'assigner': {
            'type': 'HungarianAssigner', 'match_costs': [
                {'type': 'ClassificationCost', 'weight': 2.0},
                {'type': 'CrossEntropyLossCost', 'weight': 5.0, 'use_sigmoid': True},
                {'type': 'DiceCost', 'weight': 5.0, 'pred_act': True, 'eps': 1.0}]}},
        'test_cfg': {'panoptic_on': True, 'instance_on': True, 'max_per_image': 20, **testing},
    }


def make(stuff=STUFF, **testing):
    torch.manual_seed(0)
    return build_model(config(stuff, **testing))


def targets(counts, shape=(64, 96), seed=0, stuff=True):
    g = torch.Generator().manual_seed(seed)
    items = []
    for n in counts:
        low = torch.rand(n, 2, generator=g) * torch.tensor([50.0, 30.0])
        boxes = torch.cat([low, low + 5 + 20 * torch.rand(n, 2, generator=g)], 1).round()
        masks = torch.zeros(n, *shape, dtype=torch.bool)
        for m, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
            m[y1:y2, x1:x2] = True
        item = {'boxes': boxes, 'labels': torch.randint(0, THINGS, (n,), generator=g), 'masks': masks}
        if stuff:
            item['sem_seg'] = torch.full(shape, 255)
            item['sem_seg'][:20] = THINGS + 1
            item['sem_seg'][masks.any(0)] = 0
        items.append(item)
    return Targets.collate(items, shape)


@pytest.mark.parametrize('counts', [(0, 0), (1, 0), (3, 2), (40, 2)])
@pytest.mark.parametrize('stuff', [0, STUFF])
def test_any_number_of_segments_trains(counts, stuff):
    model = make(stuff)
    losses = model.loss(torch.randn(2, 3, 64, 96), targets(counts, stuff=stuff > 0))
    sum(losses.values()).backward()
    assert all(math.isfinite(v.item()) and v >= 0 for v in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert set(losses) == {f'{d}loss_{n}' for d in ('d0.', 'd1.', 'd2.', '') for n in ('cls', 'mask', 'dice')}
    assert (losses['loss_mask'] > 0) == (losses['loss_dice'] > 0) == (counts != (0, 0) or stuff > 0)


def test_segments_are_things_and_then_the_stuff_that_is_there():
    t = targets((3, 1))
    t.ignore[0, 1], t.valid[0, 1] = True, False
    s = Segments.of(t, THINGS, STUFF)
    G = t.labels.shape[1]
    assert s.labels[0].tolist() == [*t.labels[0].tolist(), 3, 4]
    assert s.valid.tolist() == [[True, False, True, False, True], [True, False, False, False, True]]
    assert s.most == 3
    points = torch.rand(2, 50, 2)
    stuff = [F.grid_sample((t.sem_seg == c)[:, None].float(), 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]
             for c in (3, 4)]
    torch.testing.assert_close(s.at(points)[:, G:], torch.stack(stuff, 1), atol=1e-5, rtol=0)
    place = torch.tensor([[0, 2, 4], [4, 0, 3]])
    own = points.repeat_interleave(3, 0)    # the same points for each place
    want = s.at(points).gather(1, place[..., None].expand(-1, -1, 50)).flatten(0, 1)
    torch.testing.assert_close(s.at_own(place, own), want)


def test_losses_equal_loops_over_layers_images_and_segments(monkeypatch):
    """As the paper has them (arXiv:2112.01527, section 3.3), from whole masks, at points that stand still."""
    model, images, truth = make(), torch.randn(2, 3, 64, 96), targets((3, 1))
    fixed = torch.rand(P, 2)
    monkeypatch.setattr(mask2former_head, 'even_points', lambda n, *_: fixed.expand(n, -1, -1))
    monkeypatch.setattr(mask2former_head, 'uncertain_points', lambda maps, *_: fixed.expand(len(maps), -1, -1))
    head = model.panoptic_head
    with torch.no_grad():
        feats = model.extract_feat(images)
        losses = head.loss(feats, truth)
        states, features = head(feats)
        for i, state in enumerate(states):
            logits, masks = head.cls_embed(state), torch.einsum('bqc,bchw->bqhw', head.mask_embed(state), features)
            got = by_loops(logits, masks, truth, fixed)
            for name, want in got.items():
                torch.testing.assert_close(losses[f'd{i}.{name}' if i < 3 else name], want, rtol=1e-4, atol=1e-5)


def by_loops(logits, masks, truth, points):
    from scipy.optimize import linear_sum_assignment

    def at(image):
        return F.grid_sample(image[None, None].float(), 2 * points[None, None] - 1, align_corners=False).flatten()
    labels, bce, dice, matched = torch.full(logits.shape[:2], K), 0.0, 0.0, 0
    for b in range(len(logits)):
        n = int(truth.valid[b].sum())
        segments = [(int(truth.labels[b, g]), truth.masks[b].dense()[g]) for g in range(n)]
        segments += [(c, truth.sem_seg[b] == c) for c in range(THINGS, K) if (truth.sem_seg[b] == c).any()]
        cost = torch.zeros(Q, len(segments))
        for q in range(Q):
            for s, (label, mask) in enumerate(segments):
                x, t = at(masks[b, q]), at(mask)
                cost[q, s] = (-2 * logits[b, q].softmax(0)[label] + 5 * F.binary_cross_entropy_with_logits(x, t)
                              + 5 * (1 - (2 * (x.sigmoid() * t).sum() + 1) / (x.sigmoid().sum() + t.sum() + 1)))
        for q, s in zip(*linear_sum_assignment(cost.numpy()), strict=True):
            x, t = at(masks[b, q]), at(segments[s][1])
            labels[b, q] = segments[s][0]
            bce += F.binary_cross_entropy_with_logits(x, t)
            dice += 1 - (2 * (x.sigmoid() * t).sum() + 1) / (x.sigmoid().sum() + t.sum() + 1)
            matched += 1
    weight = torch.tensor([1.0] * K + [0.1])
    return {'loss_cls': 2 * F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight),
            'loss_mask': 5 * bce / matched, 'loss_dice': 5 * dice / matched}


def test_a_query_looks_only_where_its_mask_is():
    """The mask on a level is the mask itself made smaller; one that is empty there looks everywhere."""
    head, seen = make().panoptic_head.eval(), []
    with torch.no_grad():
        feats = build_model(config())    # another model's backbone: any maps will do
        maps = feats.extract_feat(torch.randn(1, 3, 64, 96))
        for layer in head.transformer_decoder.layers:
            layer.register_forward_hook(lambda m, args, out: seen.append(args[4]))
        states, features = head(maps)
        for i, blocked in enumerate(seen):
            whole = torch.einsum('bqc,bchw->bqhw', head.mask_embed(states[i]), features)
            size = [(2, 3), (4, 6), (8, 12)][i]
            small = F.interpolate(whole, size=size, mode='bilinear', align_corners=False).flatten(2)
            want = small.sigmoid() < 0.5
            want[want.all(-1)] = False
            clear = small.abs().min(-1).values > 1e-5
            assert torch.equal(blocked[clear], want[clear])


class Waits(TorchDispatchMode):
    """Notes operations that a device would have to be waited for, since a number or a shape comes out of values."""

    READS = ('_local_scalar_dense', 'nonzero', 'masked_select', 'equal', 'is_nonzero', '_unique2', 'bincount')

    def __init__(self):
        super().__init__()
        self.seen, self.paused = [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split('.')[0]
        by_mask = name in ('index', 'index_put', 'index_put_', '_index_put_impl_') and any(
            i is not None and i.dtype == torch.bool for i in args[1])
        if not self.paused and (name in self.READS or by_mask):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_training_step_waits_for_the_device_in_the_matching_and_once_after_it(monkeypatch):
    model, images, truth, before = make(), torch.randn(2, 3, 64, 96), targets((3, 2)), []
    own = hungarian.match

    def match(costs):
        before.append((len(costs), list(waits.seen)))
        waits.paused = True
        found = own(costs)
        waits.paused = False
        return found
    monkeypatch.setattr(hungarian, 'match', match)
    with Waits() as waits:
        sum(model.loss(images, truth).values()).backward()
    assert before == [(4, [])]    # all layers in one go
    assert waits.seen == ['_local_scalar_dense']    # how many segments there are


@pytest.mark.slow
def test_forward_of_the_head_compiles_whole():
    head = make().panoptic_head.eval()
    maps = [torch.randn(1, 8 * 2 ** i, 16 // 2 ** i, 24 // 2 ** i) for i in range(4)]
    with torch.no_grad():
        want = head.predict(maps)
        got = torch.compile(head.predict, backend='aot_eager', fullgraph=True)(maps)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------- results

def fusion(**testing):
    return MaskFormerFusionHead(THINGS, STUFF, {'panoptic_on': True, **testing})


def queries(*rows, size=(4, 6)):
    """rows: (class or None, probability, (y1, y2, x1, x2) of the mask) -> logits (1, Q, K + 1), masks (1, Q, h, w)."""
    logits, masks = torch.full((1, len(rows), K + 1), -30.0), torch.full((1, len(rows), *size), -20.0)
    for n, (label, p, (y1, y2, x1, x2)) in enumerate(rows):
        logits[0, n, K if label is None else label] = math.log(p)
        logits[0, n, (K if label is None else label) - 1] = math.log(1 - p)
        masks[0, n, y1:y2, x1:x2] = 20
    return logits, masks


def predict(head, logits, masks, image=None):
    h, w = masks.shape[2:]
    meta = ImageMeta((h, w), image or (h, w))
    return head.predict(logits, masks, (h, w), [meta])[0]


def test_panoptic_map_worked_by_hand():
    logits, masks = queries(
        (0, 0.9, (0, 2, 0, 3)), (0, 0.95, (0, 2, 2, 5)),    # two things that share a column: the second's
        (4, 0.9, (2, 4, 0, 2)), (4, 0.9, (2, 4, 4, 6)),    # two pieces of one stuff class
        (1, 0.7, (2, 3, 2, 3)),    # not sure enough
        (None, 0.99, (3, 4, 2, 4)))    # nothing
    found = predict(fusion(iou_thr=0.6, filter_low_score=True), logits, masks)
    n = K
    assert found.panoptic.tolist() == [[1000, 1000, 2000, 2000, 2000, n]] * 2 + [[4, 4, n, n, 4, 4]] * 2
    assert len(found) == 0 and found.masks is None
    # the first keeps 4 of its 6 pixels: below 0.8 its segment is dropped, and with it the number
    found = predict(fusion(iou_thr=0.8, filter_low_score=True), logits, masks)
    assert found.panoptic[:2].tolist() == [[n, n, 1000, 1000, 1000, n]] * 2
    # without the filter every pixel is somebody's, if somebody is sure of something
    assert (predict(fusion(iou_thr=0.0), logits, masks).panoptic < 5000).all()


def test_nothing_found_is_a_map_of_nothing():
    logits, masks = queries((0, 0.5, (0, 2, 0, 3)))
    found = predict(fusion(instance_on=True, max_per_image=3), logits, masks, image=(8, 9))
    assert found.panoptic.shape == (8, 9) and (found.panoptic == K).all()


def test_instances_are_pairs_of_queries_and_classes_of_things_best_first():
    logits, masks = queries((1, 0.6, (0, 2, 0, 3)), (2, 0.9, (2, 4, 1, 2)), (4, 0.9, (0, 4, 0, 6)))
    found = predict(fusion(panoptic_on=False, instance_on=True, max_per_image=5), logits, masks)
    assert found.panoptic is None and found.labels.tolist()[:3] == [2, 1, 0]    # label 4 is stuff
    torch.testing.assert_close(found.scores[:3], torch.tensor([0.9, 0.6, 0.4]), rtol=1e-4, atol=0)
    assert found.boxes[:3].tolist() == [[1, 2, 2, 4], [0, 0, 3, 2], [0, 0, 3, 2]]
    assert torch.equal(found.masks[:2], masks[0, [1, 0]] > 0)


def test_scores_of_instances_say_how_sure_the_mask_is():
    logits, masks = queries((1, 0.8, (0, 2, 0, 3)))
    masks = masks / 20    # a probability of 0.731 inside
    found = predict(fusion(panoptic_on=False, instance_on=True, max_per_image=1), logits, masks)
    assert found.scores.item() == pytest.approx(0.8 * torch.sigmoid(torch.tensor(1.0)).item(), rel=1e-4)


def test_semantic_map_is_the_class_that_all_queries_are_surest_of(monkeypatch):
    from omnidet.models.seg_heads import maskformer_fusion_head
    monkeypatch.setattr(maskformer_fusion_head, 'BUDGET', 40)    # one row at a time
    logits, masks = torch.randn(1, 5, K + 1), torch.randn(1, 5, 4, 6)
    got = predict(fusion(panoptic_on=False, semantic_on=True), logits, masks, image=(9, 7)).sem_seg
    prob = F.interpolate(masks, size=(9, 7), mode='bilinear', align_corners=False).sigmoid()
    assert torch.equal(got, torch.einsum('bqk,bqhw->bkhw', logits.softmax(-1)[..., :-1], prob)[0].argmax(0))


def test_what_lies_in_the_padding_is_cut_off():
    model = make(object_mask_thr=0.0, iou_thr=0.0).eval()
    metas = [ImageMeta((40, 70), (80, 140), (2.0, 2.0)), ImageMeta((64, 96), (64, 96))]
    with torch.no_grad():
        first, second = model.predict(torch.randn(2, 3, 64, 96), metas)
        unscaled, _ = model.predict(torch.randn(2, 3, 64, 96), metas, rescale=False)
    assert first.panoptic.shape == (80, 140) == first.masks.shape[1:] and second.panoptic.shape == (64, 96)
    assert unscaled.panoptic.shape == (40, 70) == unscaled.masks.shape[1:]
    assert (first.scores.diff() <= 0).all() and (first.labels < THINGS).all()


def test_mistakes_are_said():
    model = make()
    t = targets((1, 1))
    t.masks = None
    with pytest.raises(DatasetError, match='LoadPanopticAnnotations'):
        model.loss(torch.randn(2, 3, 64, 96), t)
    with pytest.raises(ConfigError, match='object_mask_thr'):
        make(object_mask_thrs=0.5)
    with pytest.raises(ConfigError, match='loss_panoptic'):
        MaskFormerFusionHead(loss_panoptic={'type': 'DiceLoss'})
    wrong = config()
    wrong['panoptic_head']['pixel_decoder']['encoder']['layer_cfg']['self_attn_cfg']['num_levels'] = 5
    with pytest.raises(ConfigError, match='num_levels=5'):
        build_model(wrong)


def test_masks_that_share_windows_are_taken_apart():
    """A query of two classes has one mask, which both results have."""
    masks = InstanceMasks.from_dense(torch.eye(4, dtype=torch.bool)[None].repeat(2, 1, 1))
    assert torch.equal(masks[torch.tensor([1, 0, 1])].dense(), torch.eye(4, dtype=torch.bool).expand(3, 4, 4))


def test_decoder_inputs_are_projected_where_their_width_differs():
    cfg = config()
    cfg['panoptic_head']['enforce_decoder_input_project'] = True
    head = build_model(cfg).panoptic_head
    assert [type(p) for p in head.decoder_input_projs] == [nn.Conv2d] * 3
