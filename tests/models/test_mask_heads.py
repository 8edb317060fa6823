"""SOLOv2, CondInst and RTMDet-Ins, tiny: their mask losses by loops, their detections, and what a step must not do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_grid_heads import NoSynchronisation

import omnidet
from omnidet.errors import ConfigError
from omnidet.inference.fuse import fuse_conv_bn
from omnidet.structures import ImageMeta, Targets

GN = {'type': 'GN', 'num_groups': 2, 'requires_grad': True}
TEST = {'nms_pre': 50, 'score_thr': 0.0, 'nms': {'type': 'nms', 'iou_threshold': 0.6}, 'max_per_img': 10}
TRUNK = {'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'norm_cfg': {'type': 'BN'}},
         'neck': {'type': 'FPN', 'in_channels': [4, 8, 16, 32], 'out_channels': 8, 'num_outs': 5}}
MODELS = {
    'SOLOv2': {
        'type': 'SOLOv2', **TRUNK,
        'mask_head': {'type': 'SOLOV2Head', 'num_classes': 3, 'in_channels': 8, 'feat_channels': 8, 'stacked_convs': 1,
                      'strides': [8, 8, 16, 32, 32], 'num_grids': [8, 6, 4, 3, 2], 'norm_cfg': GN,
                      'scale_ranges': ((1, 24), (12, 48), (24, 96), (48, 192), (96, 400)),
                      'mask_feature_head': {'feat_channels': 8, 'start_level': 0, 'end_level': 3, 'out_channels': 8,
                                            'norm_cfg': GN}},
        'test_cfg': {'nms_pre': 50, 'score_thr': 0.1, 'mask_thr': 0.5, 'filter_thr': 0.01, 'max_per_img': 10}},
    'CondInst': {
        'type': 'CondInst', **TRUNK,
        'bbox_head': {'type': 'CondInstBboxHead', 'num_params': 169, 'num_classes': 3, 'in_channels': 8,
                      'feat_channels': 8, 'stacked_convs': 1, 'strides': [4, 8, 16, 32, 64], 'norm_cfg': GN,
                      'center_sampling': True, 'norm_on_bbox': True,
                      'regress_ranges': ((-1, 16), (16, 32), (32, 64), (64, 128), (128, 1e8))},
        'mask_head': {'type': 'CondInstMaskHead', 'max_masks_to_train': 100,
                      'mask_feature_head': {'in_channels': 8, 'feat_channels': 8, 'start_level': 1, 'end_level': 3,
                                            'out_channels': 8, 'mask_stride': 8, 'num_stacked_convs': 1,
                                            'norm_cfg': {'type': 'BN'}}},
        'test_cfg': {**TEST, 'mask_thr': 0.5}},
    'RTMDet-Ins': {
        'type': 'RTMDet', **TRUNK, 'neck': {**TRUNK['neck'], 'start_level': 1, 'num_outs': 3},
        'bbox_head': {'type': 'RTMDetInsSepBNHead', 'num_classes': 3, 'in_channels': 8, 'feat_channels': 8,
                      'stacked_convs': 1},
        'train_cfg': {'assigner': {'type': 'DynamicSoftLabelAssigner', 'topk': 13}},
        'test_cfg': {**TEST, 'mask_thr_binary': 0.5}},
}
MODELS['RTMDet-Ins, one tower'] = {**MODELS['RTMDet-Ins'], 'bbox_head': {
    **MODELS['RTMDet-Ins']['bbox_head'], 'type': 'RTMDetInsHead', 'norm_cfg': GN}}
H, W = 96, 128
META = ImageMeta((H, W), (H, W))


def build(name):
    torch.manual_seed(0)
    model = omnidet.build_model(MODELS[name])
    for key, p in model.named_parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, 0, p[0].numel() ** -0.5)
        elif 'rtm_reg' in key:
            torch.nn.init.constant_(p, 2.0)    # boxes that overlap objects
        elif '_cls' in key:
            torch.nn.init.zeros_(p)    # scores around a half
    return model.eval()    # norms as they are


def images(B=2):
    return torch.randn(B, 3, H, W, generator=torch.Generator().manual_seed(1))


def item(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 2, generator=g) * torch.tensor([W - 60, H - 60])
    boxes = torch.cat([low, low + 12 + torch.rand(n, 2, generator=g) * 44], 1)
    y, x = torch.arange(H)[:, None], torch.arange(W)
    x1, y1, x2, y2 = boxes.T[..., None, None]
    masks = ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25
    return {'boxes': boxes, 'labels': torch.randint(3, (n,), generator=g), 'masks': masks}


def truth(*counts):
    return Targets.collate([item(n, seed) for seed, n in enumerate(counts)], (H, W))


@pytest.mark.parametrize('name', MODELS)
def test_model_trains_on_many_one_and_no_object(name):
    model = build(name)
    for targets in (truth(2, 1), truth(0, 0), truth(300, 0)):
        model.zero_grad()
        losses = model.loss(images(), targets)
        assert all(v.ndim == 0 and v.isfinite() and v >= 0 for v in losses.values()), losses
        sum(losses.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        assert (losses['loss_mask'] > 0) == bool(targets.valid.any())


@pytest.mark.parametrize('name', MODELS)
def test_losses_do_not_depend_on_how_far_ground_truth_is_padded(name):
    model, targets, longer = build(name), truth(2, 1), truth(2, 1, 30)[:2]
    want, got = model.loss(images(), targets), model.loss(images(), longer)
    assert longer.boxes.shape[1] == 30
    assert all(torch.allclose(got[k], want[k], rtol=1e-4) for k in want), (got, want)


@pytest.mark.parametrize('name', MODELS)
def test_training_step_never_waits_for_the_device(name):
    model, targets, x = build(name), truth(2, 1), images()
    feats = model.extract_feat(x)
    with NoSynchronisation():
        if name == 'SOLOv2':
            losses = model.mask_head.loss(feats, targets)
        elif name == 'CondInst':
            losses = model.loss(x, targets)
        else:
            losses = model.bbox_head.loss(feats, targets)
        sum(losses.values()).backward()


def dice(logits, target, eps):
    p, t = logits.sigmoid(), target.float()
    return 1 - 2 * (p * t).sum() / ((p * p).sum() + (t * t).sum() + 2 * eps)


def test_condinst_mask_loss_is_that_of_a_loop_over_positives():
    model, targets, x = build('CondInst'), truth(3, 1), images()
    feats = model.extract_feat(x)
    out, priors = model.bbox_head(feats), model.bbox_head.priors(feats)
    _, assignment = model.bbox_head.losses_and_assignment(out, priors, targets)
    maps, masks, found = model.mask_head(feats), targets.masks.dense(), []
    for b, n in assignment.positive.nonzero().tolist():
        logits = model.mask_head.logits(maps[b:b + 1], out['kernel'][b:b + 1], priors, torch.tensor([[n]]))[0, 0]
        found.append(dice(logits, masks[b, assignment.gt[b, n]][2::4, 2::4], 5e-6))
    assert len(found) > 10
    assert model.loss(x, targets)['loss_mask'].item() == pytest.approx((sum(found) / len(found)).item(), rel=1e-4)


def test_rtmdet_ins_mask_loss_is_that_of_a_loop_over_positives():
    model, targets, x = build('RTMDet-Ins'), truth(3, 1), images()
    head, feats = model.bbox_head, model.extract_feat(x)
    out, priors = head(feats), head.priors(feats)
    _, assignment = head.losses_and_assignment(out, priors, targets)
    masks, found = targets.masks.dense(), []
    for b, n in assignment.positive.nonzero().tolist():
        small = head.dynamic(out['mask'][b:b + 1], out['kernel'][b:b + 1, n:n + 1], priors, torch.tensor([[n]]))
        logits = F.interpolate(small, scale_factor=2, mode='bilinear')[0, 0]
        found.append(dice(logits, masks[b, assignment.gt[b, n]][2::4, 2::4], 5e-6))
    assert len(found) >= 4
    want = 2 * (sum(found) / len(found)).item()
    assert head.loss(feats, targets)['loss_mask'].item() == pytest.approx(want, rel=1e-4)


def test_mask_losses_over_a_budget_keep_their_mean(monkeypatch):
    model, targets = build('CondInst'), truth(6, 1)
    feats = model.extract_feat(images())
    out, priors = model.bbox_head(feats), model.bbox_head.priors(feats)
    _, assignment = model.bbox_head.losses_and_assignment(out, priors, targets)
    assert assignment.positive.sum(1).max() > 30

    def loss(places):
        model.mask_head.max_masks_to_train = 2 * places
        with torch.no_grad():
            return model.mask_head.loss(feats, out['kernel'], priors, assignment, targets)['loss_mask'].item()
    sample = [loss(12) for _ in range(150)]
    assert min(sample) < loss(200) < max(sample)
    assert sum(sample) / len(sample) == pytest.approx(loss(200), rel=0.02)


@pytest.mark.parametrize('name', MODELS)
def test_data_without_masks_is_refused(name):
    targets = Targets.collate([{k: v for k, v in item(2).items() if k != 'masks'}] * 2, (H, W))
    with pytest.raises(ConfigError, match='with_mask=True'):
        build(name).loss(images(), targets)


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_detections_have_masks_in_the_size_of_the_file(name):
    model = build(name)
    half = ImageMeta((H, W), (H // 2, W // 2), scale_factor=(2.0, 2.0))
    results, halved = model.predict(images(), [META] * 2), model.predict(images(), [half] * 2)
    for r, h in zip(results, halved, strict=True):
        assert 0 < len(r) <= 10 and (r.scores[1:] <= r.scores[:-1]).all()
        assert r.masks.shape == (len(r), H, W) and h.masks.shape == (len(h), H // 2, W // 2)
        assert r.masks.any() and torch.equal(r.labels, h.labels)
        area, small = r.masks.sum((1, 2)), 4 * h.masks.sum((1, 2))
        assert ((area - small).abs() <= 0.1 * area + 60).all()


@torch.no_grad()
def test_solov2_boxes_lie_around_their_masks():
    for r in build('SOLOv2').predict(images(), [META] * 2):
        assert len(r)
        for box, mask in zip(r.boxes.tolist(), r.masks, strict=True):
            y, x = mask.nonzero().unbind(1)
            assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_padding_of_the_batch_is_cut_from_masks(name):
    meta = ImageMeta((80, 100), (80, 100))
    assert all(r.masks.shape == (len(r), 80, 100) for r in build(name).predict(images(), [meta] * 2))


@torch.no_grad()
def test_image_without_detections_has_no_masks():
    for name, model in ((n, build(n)) for n in MODELS):
        if name == 'SOLOv2':
            object.__setattr__(model.mask_head.testing, 'score_thr', 2.0)
        else:
            object.__setattr__(model.bbox_head.postprocess, 'score_thr', 2.0)
        assert all(r.masks.shape == (0, H, W) for r in model.predict(images(), [META] * 2))


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_fused_model_finds_the_same(name):
    model = build(name)
    for want, got in zip(model.predict(images(), [META] * 2), fuse_conv_bn(model).predict(images(), [META] * 2),
                         strict=True):
        assert len(want)
        torch.testing.assert_close(got.scores, want.scores, rtol=1e-3, atol=1e-4)


def test_solov2_scores_cells_some_at_a_time(monkeypatch):
    from omnidet.models.mask_heads import solov2_head
    model = build('SOLOv2')
    with torch.no_grad():
        want = model.predict(images(), [META] * 2)
        monkeypatch.setattr(solov2_head, 'CELLS', 7)
        got = model.predict(images(), [META] * 2)
    assert all(len(w) and torch.allclose(w.scores, g.scores) for w, g in zip(want, got, strict=True))


def test_peak_has_no_higher_neighbour_before_it():
    from omnidet.models.mask_heads.solov2_head import peaks
    scores = torch.rand(1, 9 + 4, 2)
    got = peaks(scores, [3, 2])
    for start, S in ((0, 3), (9, 2)):
        for i in range(S):
            for j in range(S):
                for k in range(2):
                    near = [(i, j), (i - 1, j), (i, j - 1), (i - 1, j - 1)]
                    most = max(scores[0, start + a * S + b, k] for a, b in near if a >= 0 and b >= 0)
                    own = scores[0, start + i * S + j, k]
                    assert got[0, start + i * S + j, k] == (own if own == most else 0)


def test_only_one_limit_of_masks_may_be_set():
    head = {**MODELS['CondInst']['mask_head'], 'topk_masks_per_img': 5}
    with pytest.raises(ConfigError, match='topk_masks_per_img'):
        omnidet.build_model({**MODELS['CondInst'], 'mask_head': head})


@pytest.mark.slow
@pytest.mark.parametrize('name', ['SOLOv2', 'RTMDet-Ins'])
def test_whole_loss_compiles_as_one_graph(name):
    model, targets = build(name), truth(2, 1)
    feats = [f.detach() for f in model.extract_feat(images())]
    head = model.mask_head if name == 'SOLOv2' else model.bbox_head
    torch._dynamo.reset()
    want = head.loss(feats, targets)
    got = torch.compile(lambda f, t: head.loss(f, t), backend='aot_eager', fullgraph=True)(feats, targets)
    assert all(torch.allclose(got[k], want[k], rtol=1e-3) for k in want)
