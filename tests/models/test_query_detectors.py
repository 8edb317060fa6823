"""DETR, Deformable DETR and DINO at tiny widths: padding, numbers of objects, denoising, compilation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import omnidet
from omnidet import build_model
from omnidet.errors import ConfigError
from omnidet.models.dense_heads.query.denoising import CdnQueryGenerator
from omnidet.models.parts.assigners import hungarian
from omnidet.models.parts.queries import query_targets
from omnidet.nn.deformable_transformer import first_proposals, flatten_pyramid, padding_mask
from omnidet.nn.positional_encoding import SinePositionalEncoding
from omnidet.structures import ImageMeta, Targets

C, K, Q = 16, 3, 8
KINDS = ['detr', 'deformable', 'refine', 'two_stage', 'dino']
FFN = {'embed_dims': C, 'feedforward_channels': 24, 'ffn_drop': 0.0}
PLAIN = {'embed_dims': C, 'num_heads': 2, 'dropout': 0.0}
SAMPLED = {'embed_dims': C, 'num_heads': 2, 'num_levels': 2, 'num_points': 2, 'dropout': 0.0}
FOCAL = {'type': 'FocalLoss', 'use_sigmoid': True, 'gamma': 2.0, 'alpha': 0.25, 'loss_weight': 2.0}
COSTS = [{'type': 'FocalLossCost', 'weight': 2.0}, {'type': 'BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
         {'type': 'IoUCost', 'iou_mode': 'giou', 'weight': 2.0}]


def config(kind):
    deformable = kind != 'detr'
    attention = SAMPLED if deformable else PLAIN
    model = {
        'type': {'detr': 'DETR', 'dino': 'DINO'}.get(kind, 'DeformableDETR'), 'num_queries': Q,
        'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'out_indices': (2, 3) if deformable else (3,)},
        'neck': {'type': 'ChannelMapper', 'in_channels': [32, 64] if deformable else [64], 'kernel_size': 1,
                 'out_channels': C, 'act_cfg': None, 'num_outs': 2 if deformable else 1},
        'encoder': {'num_layers': 2, 'layer_cfg': {'self_attn_cfg': attention, 'ffn_cfg': FFN}},
        'decoder': {'num_layers': 3, 'layer_cfg': {'self_attn_cfg': PLAIN, 'cross_attn_cfg': attention,
                                                   'ffn_cfg': FFN}},
        'positional_encoding': {'num_feats': C // 2, 'normalize': True},
        'bbox_head': {'type': {'detr': 'DETRHead', 'dino': 'DINOHead'}.get(kind, 'DeformableDETRHead'),
                      'num_classes': K, 'embed_dims': C},
        'train_cfg': {'assigner': {'type': 'HungarianAssigner', 'match_costs': COSTS if deformable else [
            {'type': 'ClassificationCost'}, *COSTS[1:]]}},
        'test_cfg': {'max_per_img': 5},
    }
    if deformable:
        model['num_feature_levels'] = 2
        model['bbox_head']['loss_cls'] = FOCAL
        model['with_box_refine'] = kind != 'deformable'
        model['as_two_stage'] = kind in ('two_stage', 'dino')
    if kind == 'dino':
        model['dn_cfg'] = {'group_cfg': {'dynamic': True, 'num_groups': None, 'num_dn_queries': 6}}
    return model


def make(kind):
    torch.manual_seed(0)
    model = build_model(config(kind))
    for name, p in model.named_parameters():    # as after some training: nothing at zero
        if p.ndim > 1 and not name.startswith('backbone'):
            nn.init.normal_(p, 0, 0.3)
    return model


def targets(counts, shape=(64, 96), seed=0, extra=0):
    g = torch.Generator().manual_seed(seed)
    items = []
    for n in counts:
        low = torch.rand(n, 2, generator=g) * torch.tensor([50.0, 30.0])
        items.append({'boxes': torch.cat([low, low + 5 + 20 * torch.rand(n, 2, generator=g)], 1),
                      'labels': torch.randint(0, K, (n,), generator=g)})
    out = Targets.collate(items, shape)
    for name in ('boxes', 'labels', 'valid', 'ignore'):
        value = getattr(out, name)
        setattr(out, name, torch.cat([value, value.new_zeros(len(value), extra, *value.shape[2:])], 1))
    return out


@pytest.mark.parametrize('kind', KINDS)
def test_padding_of_the_batch_changes_nothing(kind):
    """The maps of an image alone, and beside garbage where the batch is padded."""
    model = make(kind).eval()
    sizes = [(8, 12), (4, 6)] if kind != 'detr' else [(4, 6)]
    alone = [torch.randn(1, C, h, w) for h, w in sizes]
    padded = [torch.randn(2, C, h + h // 2, 2 * w) * 3 for h, w in sizes]
    for small, large in zip(alone, padded):
        large[:1, :, :small.shape[2], :small.shape[3]] = small
    with torch.no_grad():
        one, both = (model.transform(f, shape, sizes) for f, shape, sizes in (
            (alone, (128, 192), None), (padded, (192, 384), torch.tensor([[128, 192], [192, 384]]))))
    # DINO's decoder encodes places in parts of the padded batch, as its published weights know them.
    want, got = (s.proposals if kind == 'dino' else model.bbox_head(s, -1) for s in (one, both))
    torch.testing.assert_close(got.logits[:1], want.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.boxes[:1], want.boxes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_saying_that_no_image_is_padded_changes_nothing(kind):
    model, images = make(kind).eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        feats = model.extract_feat(images)
        free = model.bbox_head(model.transform(feats, (64, 96), None), -1)
        told = model.bbox_head(model.transform(feats, (64, 96), torch.tensor([[64, 96]] * 2)), -1)
    torch.testing.assert_close(told.logits, free.logits)
    torch.testing.assert_close(told.boxes, free.boxes)


@pytest.mark.parametrize('counts', [(0, 0), (1, 0), (3, 12), (300, 2)])
@pytest.mark.parametrize('kind', KINDS)
def test_any_number_of_objects_trains(kind, counts):
    model = make(kind)
    losses = model.loss(torch.randn(2, 3, 64, 96), targets(counts))
    sum(losses.values()).backward()
    assert all(math.isfinite(v.item()) and v >= 0 for v in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    layers = ['', 'd0.', 'd1.'] + (['enc_'] if kind in ('two_stage', 'dino') else [])
    layers += ['dn_', 'd0.dn_', 'd1.dn_'] if kind == 'dino' else []
    assert losses.keys() == {f'{p}loss_{k}' for p in layers for k in ('cls', 'bbox', 'iou')}
    if not any(counts):
        assert all(v == 0 for k, v in losses.items() if 'cls' not in k or 'dn_' in k)


@pytest.mark.parametrize('kind', KINDS)
def test_mixed_precision_keeps_losses_and_detections_in_full_precision(kind):
    model, images = make(kind), torch.randn(2, 3, 64, 96)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(images, targets((3, 2)))
        with torch.no_grad():
            results = model.eval().predict(images, [ImageMeta((64, 96), (64, 96))] * 2)
    sum(losses.values()).backward()
    assert {v.dtype for v in losses.values()} | {results[0].boxes.dtype, results[0].scores.dtype} == {torch.float32}
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('kind', KINDS)
def test_padding_of_the_objects_changes_nothing(kind):
    model, images = make(kind), torch.randn(2, 3, 64, 96)
    model.eval()    # batch norms
    if kind == 'dino':    # one group of queries with little noise, however far G is padded
        model.dn_query_generator.num_dn_queries = 1
        model.dn_query_generator.label_noise_scale = model.dn_query_generator.box_noise_scale = 1e-9
    want = model.loss(images, targets((3, 2)))
    got = model.loss(images, targets((3, 2), extra=4))
    for k, v in want.items():
        torch.testing.assert_close(got[k], v, rtol=1e-4, atol=1e-5, msg=k)


@pytest.mark.parametrize('kind', KINDS)
def test_every_parameter_is_trained(kind):
    model = make(kind)
    sum(model.loss(torch.randn(2, 3, 64, 96), targets((3, 2))).values()).backward()
    still = {k for k, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    if kind == 'detr':    # a softmax is blind to what is added to all keys; the first layer's queries are zero
        still = {k for k in still if 'in_proj' not in k and not k.startswith('decoder.layers.0')}
    assert not {k for k in still if not k.startswith('backbone')}


@pytest.mark.parametrize('kind', KINDS)
def test_detections_are_the_best_scores_inside_the_image(kind):
    model = make(kind).eval()
    metas = [ImageMeta(img_shape=(64, 96), ori_shape=(128, 96), scale_factor=(1.0, 0.5)),
             ImageMeta(img_shape=(50, 70), ori_shape=(50, 70))]
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        results = model.predict(images, metas)
        batch = model.predict(images, metas, rescale=False)
    for result, meta, own in zip(results, metas, batch):
        h, w = meta.ori_shape
        assert len(result) == 5 and (result.scores.diff() <= 0).all() and result.scores.min() >= 0
        assert result.scores.max() <= 1 and set(result.labels.tolist()) <= set(range(K))
        assert (result.boxes >= 0).all() and (result.boxes <= torch.tensor([w, h, w, h])).all()
        fx, fy = meta.scale_factor
        torch.testing.assert_close(result.boxes * torch.tensor([fx, fy, fx, fy]), own.boxes)


@pytest.mark.parametrize('kind', KINDS)
def test_model_is_built_without_memory(kind):
    with torch.device('meta'):
        model = build_model(config(kind))
    assert {p.device.type for p in model.parameters()} == {'meta'}


def test_recomputed_layers_give_equal_gradients():
    model, feats = make('deformable'), [torch.randn(1, C, 4, 6), torch.randn(1, C, 2, 3)]
    weight = model.encoder.layers[0].ffn.layers[1].weight
    grads = []
    for num_cp in (-1, 2):
        model.encoder.num_cp = num_cp
        model.transform(feats, (64, 96), None).hidden[-1].square().sum().backward()
        grads.append(weight.grad.clone())
        model.zero_grad()
    torch.testing.assert_close(grads[0], grads[1])


def test_padding_mask_is_that_of_the_nearest_pixel():
    mask = padding_mask(torch.zeros(2, 1, 4, 5), (64, 80), torch.tensor([[64, 80], [33, 32]]))
    pixels = torch.ones(2, 64, 80)
    pixels[0] = 0
    pixels[1, :33, :32] = 0
    assert torch.equal(mask, nn.functional.interpolate(pixels[None], size=(4, 5))[0].bool())


def test_proposals_lie_at_their_cells_and_double_from_level_to_level():
    feats = [torch.zeros(1, C, 4, 6), torch.zeros(1, C, 2, 3)]
    pyramid = flatten_pyramid(feats, SinePositionalEncoding(C // 2), torch.zeros(2, C), (64, 96),
                              torch.tensor([[48, 96]]))
    memory, logits = first_proposals(torch.ones(1, 30, C), pyramid)
    boxes = logits.sigmoid()[0]
    torch.testing.assert_close(boxes[7], torch.tensor([1.5 / 6, 1.5 / 3, 0.05, 0.05]))    # row 1 of 3 rows of image
    torch.testing.assert_close(boxes[24 + 1], torch.tensor([1.5 / 3, 0.5 / 2, 0.1, 0.1]))    # both rows begin inside
    assert (memory[0, 18:24] == 0).all() and torch.isinf(logits[0, 18:24]).all()    # row 3 is padding
    assert (memory[0, 0] == 1).all()


def test_two_stages_without_refinement_are_refused():
    with pytest.raises(ConfigError, match='with_box_refine'):
        build_model({**config('deformable'), 'as_two_stage': True})
    with pytest.raises(ConfigError, match='DINO'):
        build_model({**config('dino'), 'as_two_stage': False})


def test_unknown_argument_of_a_layer_is_refused():
    cfg = config('detr')
    cfg['encoder'] = {'num_layers': 1, 'layer_cfg': {'self_attn_cfg': {**PLAIN, 'num_head': 2}, 'ffn_cfg': FFN}}
    with pytest.raises(ConfigError, match='num_heads'):
        build_model(cfg)


def generator(**kwargs):
    torch.manual_seed(0)
    return CdnQueryGenerator(K, C, num_matching_queries=4, **kwargs)


def test_denoising_queries_come_in_groups_that_do_not_see_each_other():
    truth = query_targets(targets((3, 2)))
    noise = generator(group_cfg={'dynamic': True, 'num_dn_queries': 7})(truth)    # 7 // 3 = 2 groups of 2 x 3
    assert noise.queries.shape == (2, 12, C) and noise.boxes.shape == (2, 12, 4)
    assert noise.assignment.gt[0].tolist() == [0, 1, 2] * 4
    assert noise.assignment.positive[0].tolist() == ([True] * 3 + [False] * 3) * 2
    assert noise.assignment.positive[1].tolist() == ([True, True, False] + [False] * 3) * 2
    assert not noise.assignment.ignored.any()
    for a in range(16):
        for b in range(16):
            blocked = b < 12 and (a >= 12 or a // 6 != b // 6)
            assert noise.attn_mask[a, b] == blocked
    assert not noise.queries[1, 2].any() and not noise.boxes[1, 2].any()    # a padded object


def test_groups_are_at_least_one_and_may_be_given():
    truth = query_targets(targets((30,)))
    assert generator(group_cfg={'dynamic': True, 'num_dn_queries': 7})(truth).queries.shape[1] == 60
    fixed = generator(group_cfg={'dynamic': False, 'num_groups': 3})(truth)
    assert fixed.queries.shape[1] == 180


def test_noise_of_boxes_keeps_within_its_scale():
    truth = query_targets(targets((5, 5)))
    noise = generator(box_noise_scale=0.4, group_cfg={'dynamic': False, 'num_groups': 50})(truth)
    boxes = noise.boxes.sigmoid().view(2, 50, 2, 5, 4)

    def corners(b):
        return torch.cat([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], -1)
    half = truth.boxes[..., 2:].repeat(1, 1, 2)[:, None, None] / 2
    moved = (corners(boxes) - corners(truth.boxes)[:, None, None]).abs() / half
    assert moved[:, :, 0].max() <= 0.4 + 1e-2 and moved[:, :, 0].max() > 0.35
    free = moved[:, :, 1][corners(truth.boxes)[:, None].expand(2, 50, 5, 4).clamp(0.15, 0.85)
                          == corners(truth.boxes)[:, None].expand(2, 50, 5, 4)]    # nothing is cut at the border
    assert free.min() >= 0.4 - 1e-2 and 0.7 < free.max() <= 0.8 + 1e-2


def test_half_of_the_label_noise_redraws_labels():
    truth = query_targets(targets((40, 40)))
    make_queries = generator(label_noise_scale=0.5, group_cfg={'dynamic': False, 'num_groups': 20})
    nn.init.normal_(make_queries.label_embedding.weight)
    own = make_queries.label_embedding(truth.labels).repeat(1, 40, 1)
    changed = (make_queries(truth).queries != own).any(-1).float().mean().item()
    assert changed == pytest.approx(0.25 * (K - 1) / K, abs=0.02)    # a third of what is drawn anew stays as it was


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


def test_waits_are_noticed():
    with Waits() as waits:
        x = torch.ones(3)
        x[x > 0], x.sum().item(), x.nonzero()
    assert waits.seen == ['index', '_local_scalar_dense', 'nonzero']


@pytest.mark.parametrize('kind', KINDS)
def test_training_step_waits_for_the_device_in_the_matching_alone(kind, monkeypatch):
    model, images, truth, layers = make(kind), torch.randn(2, 3, 64, 96), targets((3, 2)), []
    own = hungarian.match

    def match(costs):
        layers.append(len(costs))
        waits.paused = True
        found = own(costs)
        waits.paused = False
        return found
    monkeypatch.setattr(hungarian, 'match', match)
    with Waits() as waits:
        sum(model.loss(images, truth).values()).backward()
    assert not waits.seen
    assert layers == [3 + (kind in ('two_stage', 'dino'))]    # all of them in one go


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_transformer_compiles_whole(kind):
    torch._dynamo.reset()
    model = make(kind)
    feats = [torch.randn(2, C, 8, 12), torch.randn(2, C, 4, 6)][1 if kind == 'detr' else 0:]
    sizes, truth = torch.tensor([[128, 192], [100, 150]]), targets((3, 2), (128, 192)) if kind == 'dino' else None

    def run(transform):
        torch.manual_seed(1)
        states = transform(feats, (128, 192), sizes, truth)
        return model.bbox_head(states, -1).boxes
    want = run(model.transform)
    got = run(torch.compile(model.transform, backend='aot_eager', fullgraph=True))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
    got.sum().backward()
    assert model.encoder.layers[0].ffn.layers[1].weight.grad.any()


def test_a_head_of_another_width_is_refused():
    cfg = omnidet.load_config('detr/detr_r50_8xb2-150e_coco').model
    cfg.bbox_head.embed_dims = 128
    with torch.device('meta'), pytest.raises(ConfigError, match='256 in the decoder, 128 in the bbox'):
        omnidet.build_model(cfg)
