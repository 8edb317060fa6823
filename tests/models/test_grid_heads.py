"""All grid heads: they train, predict, compile as one graph, and never wait for the device in a training step."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from omnidet.registry import DENSE_HEADS
from omnidet.structures import ImageMeta, Targets

ANCHORS = {'type': 'AnchorGenerator', 'ratios': [1.0], 'octave_base_scale': 4, 'scales_per_octave': 1,
           'strides': [8, 16]}
POINTS = {'type': 'MlvlPointGenerator', 'offset': 0, 'strides': [8, 16]}
GN = {'type': 'GN', 'num_groups': 2, 'requires_grad': True}
IOU = {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4, 'min_pos_iou': 0.0}
ATSS = {'type': 'ATSSAssigner', 'topk': 9}
TEST = {'nms_pre': 50, 'score_thr': 0.0, 'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 20}
TINY = {'num_classes': 3, 'in_channels': 8, 'feat_channels': 8, 'stacked_convs': 1, 'test_cfg': TEST}
TOOD = {**TINY, 'type': 'TOODHead', 'stacked_convs': 2, 'norm_cfg': GN, 'anchor_generator': ANCHORS,
        'train_cfg': {'initial_epoch': 4, 'initial_assigner': ATSS, 'alpha': 1, 'beta': 6,
                      'assigner': {'type': 'TaskAlignedAssigner', 'topk': 13}}}
FCOS = {**TINY, 'type': 'FCOSHead', 'norm_cfg': GN, 'strides': (8, 16), 'regress_ranges': ((-1, 32), (32, 1e8))}
HEADS = {
    'Retina': {**TINY, 'type': 'RetinaHead', 'anchor_generator': ANCHORS, 'train_cfg': {'assigner': IOU}},
    'RPN': {'type': 'RPNHead', 'in_channels': 8, 'feat_channels': 8, 'anchor_generator': ANCHORS, 'test_cfg': TEST,
            'train_cfg': {'assigner': IOU, 'sampler': {'type': 'RandomSampler', 'num': 32, 'pos_fraction': 0.5}}},
    'SSD': {'type': 'SSDHead', 'num_classes': 3, 'in_channels': (8, 8), 'test_cfg': TEST,
            'train_cfg': {'assigner': {**IOU, 'neg_iou_thr': 0.5}},
            'anchor_generator': {'type': 'SSDAnchorGenerator', 'strides': [8, 16], 'ratios': [[2], [2, 3]],
                                 'min_sizes': [16, 32], 'max_sizes': [32, 64]}},
    'RTMDet': {**TINY, 'type': 'RTMDetSepBNHead', 'anchor_generator': POINTS, 'with_objectness': False,
               'train_cfg': {'assigner': {'type': 'DynamicSoftLabelAssigner', 'topk': 13}}},
    'FCOS': FCOS,
    'FCOS refined': {**FCOS, 'center_sampling': True, 'norm_on_bbox': True, 'centerness_on_reg': True,
                     'conv_bias': True, 'loss_bbox': {'type': 'GIoULoss'}},
    'ATSS': {**TINY, 'type': 'ATSSHead', 'norm_cfg': GN, 'anchor_generator': ANCHORS, 'train_cfg': {'assigner': ATSS}},
    'GFL': {**TINY, 'type': 'GFLHead', 'norm_cfg': GN, 'anchor_generator': ANCHORS, 'reg_max': 8,
            'train_cfg': {'assigner': ATSS}},
    'TOOD': TOOD,
    'TOOD anchors': {**TOOD, 'anchor_type': 'anchor_based'},
    'YOLOX': {**TINY, 'type': 'YOLOXHead', 'strides': (8, 16), 'test_cfg': {**TEST, 'nms_pre': -1},
              'train_cfg': {'assigner': {'type': 'SimOTAAssigner', 'center_radius': 2.5}}},
}
TWO = [[4., 4., 36., 40.], [20., 30., 60., 62.]]
KNOWN = {'Retina', 'RPN', 'SSD'}    # test_anchor_heads.py trains and predicts these


def build(name, late=True):
    torch.manual_seed(0)
    head = DENSE_HEADS.build(HEADS[name])
    for p in head.parameters():
        torch.nn.init.normal_(p, 0, 0.3)
    if hasattr(head, 'set_progress'):
        head.set_progress(10 if late else 0, 0)
    return head


def feats(B=2, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(B, 8, 64 // s, 64 // s, generator=g) for s in (8, 16)]


def targets(*boxes, size=(64, 64)):
    return Targets.collate([{'boxes': torch.tensor(b).reshape(-1, 4), 'labels': torch.arange(len(b)) % 3, 'size': size}
                            for b in boxes], (64, 64))


class NoSynchronisation(TorchDispatchMode):
    """Refuses what makes a device wait: results whose shape or value the host must know."""

    REFUSED = ('_local_scalar_dense', 'nonzero', 'masked_select', 'item', 'is_nonzero', 'unique2', '_unique2', 'equal')

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = [i for i in args[1] if i is not None] if name in ('index', 'index_put', 'index_put_') else []
        if name in self.REFUSED or any(i.dtype == torch.bool for i in indices):
            raise AssertionError(f'{func} waits for the device')
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('name', [n for n in HEADS if n not in KNOWN])
@pytest.mark.parametrize('late', [True, False])
def test_head_trains_on_many_one_and_no_object(name, late):
    head = build(name, late)
    for truth in (targets(TWO, []), targets([], []), targets(TWO * 150, TWO)):
        head.zero_grad()
        losses = head.loss(feats(), truth)
        assert all(v.ndim == 0 and v.isfinite() and v >= 0 for v in losses.values()), losses
        sum(losses.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize('name', [n for n in HEADS if n not in KNOWN])
def test_losses_do_not_depend_on_how_far_ground_truth_is_padded(name):
    head, truth = build(name), targets(TWO, TWO[:1])
    longer = targets(TWO, TWO[:1], TWO * 3)[:2]
    want, got = head.loss(feats(), truth), head.loss(feats(), longer)
    assert longer.boxes.shape[1] == 6 and all(torch.allclose(got[k], want[k], rtol=1e-5) for k in want)


@pytest.mark.parametrize('name', [n for n in HEADS if n not in KNOWN])
def test_head_predicts_by_rank(name):
    head = build(name).eval()
    with torch.no_grad():
        results = head.predict(feats(), [ImageMeta((64, 64), (64, 64))] * 2)
        halved = head.predict(feats(), [ImageMeta((64, 64), (32, 32), scale_factor=(2.0, 2.0))] * 2)
    for r, h in zip(results, halved, strict=True):
        assert 0 < len(r) <= 20 and (r.scores[1:] <= r.scores[:-1]).all() and 0 <= r.scores.min() <= r.scores.max() <= 1
        assert torch.allclose(h.boxes * 2, r.boxes, atol=1e-4) and r.labels.max() < 3


@pytest.mark.parametrize('name, late', [*((n, True) for n in HEADS), ('TOOD', False)])
def test_training_step_never_waits_for_the_device(name, late):
    head, x, truth = build(name, late), feats(), targets(TWO, TWO[:1], size=(48, 64))
    with NoSynchronisation():
        losses = head.loss(x, truth)
        sum(losses.values()).backward()


def test_what_refuses_synchronisations_sees_them():
    x = torch.arange(4)
    for wait in (lambda: x[x > 1], lambda: x.sum().item(), lambda: x.nonzero(), lambda: bool(x.any())):
        with pytest.raises(AssertionError, match='waits'), NoSynchronisation():
            wait()


@pytest.mark.slow
@pytest.mark.parametrize('name', HEADS)
def test_whole_loss_compiles_as_one_graph(name):
    head, x, truth = build(name), feats(), targets(TWO, TWO[:1])
    torch._dynamo.reset()
    torch.manual_seed(0)
    want = head.loss(x, truth)
    compiled = torch.compile(lambda feats, truth: head.loss(feats, truth), backend='aot_eager', fullgraph=True)
    torch.manual_seed(0)
    got = compiled(x, truth)
    assert got.keys() == want.keys()
    if name != 'RPN':    # its sampler draws
        assert all(torch.allclose(got[k], want[k], rtol=1e-4) for k in want), (got, want)
    sum(got.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_tood_begins_with_the_first_assigner_and_class_loss():
    head = DENSE_HEADS.build(HEADS['TOOD'])
    kinds = []
    for epoch in (0, 3, 4, 10 ** 6):
        head.set_progress(epoch, 0)
        kinds.append((type(head.assigner).__name__, head.initial))
    assert kinds == [('ATSSAssigner', True)] * 2 + [('TaskAlignedAssigner', False)] * 2
    assert (head.alignment_assigner.alpha, head.alignment_assigner.beta) == (1, 6)


def test_yolox_takes_an_l1_loss_when_told_to():
    head, truth = build('YOLOX'), targets(TWO, [])
    assert 'loss_l1' not in head.loss(feats(), truth)
    head.use_l1 = True
    assert head.loss(feats(), truth)['loss_l1'] > 0


def test_quality_ranks_candidates_but_does_not_choose_them():
    head = build('FCOS').eval()
    out = head(feats(1))
    # The best class score has the least centerness: it is among the one candidate per level, but it comes last.
    out['quality'] = torch.full_like(out['quality'], 3.0)
    best = out['cls'].amax(-1).argmax(1)
    out['quality'][0, best] = -3.0
    options = type(head.postprocess)(nms_pre=1, score_thr=0.0)
    with torch.no_grad():
        result, = head.detect(out, head.priors(feats(1)), [ImageMeta((64, 64), (64, 64))], False, options)
    assert len(result) == 2
    top = out['cls'].sigmoid().amax() * torch.tensor(-3.0).sigmoid()
    assert torch.isclose(result.scores[-1], top)


@pytest.mark.parametrize('name', ['FCOS', 'ATSS', 'GFL', 'TOOD', 'YOLOX'])
def test_losses_are_float32_under_autocast(name):
    head, truth = build(name), targets(TWO, [])
    with torch.autocast('cpu', torch.bfloat16):
        losses = head.loss(feats(), truth)
    want = head.loss(feats(), truth)
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    assert all(torch.allclose(losses[k], want[k], rtol=0.3, atol=0.1) for k in want)


@pytest.mark.parametrize('name', [n for n in HEADS if n not in KNOWN])
def test_any_head_proposes(name):
    losses, proposals = build(name).loss_and_propose(feats(), targets(TWO, []), {'max_per_img': 5})
    assert proposals.boxes.shape == (2, 5, 4) and proposals.valid.all() and not proposals.boxes.requires_grad
    assert all(v.requires_grad for v in losses.values())
