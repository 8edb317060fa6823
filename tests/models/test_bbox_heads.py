"""Box heads: what they cost, score and decode, worked by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import generalized_box_iou_loss

from omnidet.errors import ConfigError
from omnidet.models.roi_heads.sampling import SampledRoIs
from omnidet.registry import ROI_HEADS
from omnidet.structures import Priors

K, M = 3, 7
L1 = {'type': 'L1Loss', 'loss_weight': 2.0}


def _head(**kw):
    torch.manual_seed(0)
    return ROI_HEADS.build({'type': 'BBoxHead', 'in_channels': 2, 'roi_feat_size': 2, 'num_classes': K,
                            'loss_bbox': L1, **kw})


def _rois():
    """Seven RoIs: three positive, two background, two that only fill up."""
    g = torch.Generator().manual_seed(1)
    corner = torch.rand(M, 2, generator=g) * 50
    boxes = torch.cat([corner, corner + 20], 1)
    boxes[5:] = 0
    positive = torch.tensor([True] * 3 + [False] * 4)
    return SampledRoIs(boxes=boxes, sampled=torch.arange(M) < 5, positive=positive, gt=torch.zeros(M, dtype=torch.long),
                       gt_boxes=torch.where(positive[:, None], boxes + torch.tensor([1., -2., 4., 3.]), 0),
                       labels=torch.tensor([2, 0, 1, K, K, K, K]), given=torch.zeros(M, dtype=torch.bool))


def _out(head, reg_scale=1.0):
    g = torch.Generator().manual_seed(2)
    return {'cls': torch.randn(M, K + 1, generator=g, requires_grad=True),
            'reg': (torch.randn(M, head.reg_channels, generator=g) * reg_scale).requires_grad_()}


def test_class_loss_is_the_mean_over_the_sampled_rois():
    head, rois = _head(), _rois()
    out = _out(head)
    losses = head.losses(out, rois)
    assert losses['loss_cls'].item() == pytest.approx(F.cross_entropy(out['cls'][:5], rois.labels[:5]).item())
    right = (out['cls'][:5].argmax(1) == rois.labels[:5]).float().mean().item()
    assert losses['acc'].item() == pytest.approx(100 * right)


def test_positive_rois_can_weigh_more():
    head, rois = _head(), _rois()
    out = _out(head)
    each = F.cross_entropy(out['cls'][:5], rois.labels[:5], reduction='none')
    want = (each * torch.tensor([4., 4., 4., 1., 1.])).sum() / 5
    assert head.losses(out, rois, pos_weight=4)['loss_cls'].item() == pytest.approx(want.item())


@pytest.mark.parametrize('agnostic', [True, False])
def test_box_loss_sums_over_the_positive_and_divides_by_the_sampled(agnostic):
    head, rois = _head(reg_class_agnostic=agnostic), _rois()
    out = _out(head)
    deltas = head.coder.encode(Priors(rois.boxes[:3], torch.zeros(0), ()), rois.gt_boxes[:3])
    pred = out['reg'][:3] if agnostic else torch.stack(
        [out['reg'][i, 4 * c:4 * c + 4] for i, c in enumerate(rois.labels[:3].tolist())])
    want = 2 * (pred - deltas).abs().sum() / 5
    assert head.losses(out, rois)['loss_bbox'].item() == pytest.approx(want.item(), rel=1e-5)


def test_box_loss_can_be_on_decoded_boxes():
    head, rois = _head(reg_decoded_bbox=True, loss_bbox={'type': 'GIoULoss', 'loss_weight': 10.0}), _rois()
    out = _out(head)
    pred = head.decode(rois.boxes[:3], {'reg': out['reg'][:3]}, rois.labels[:3])
    want = 10 * generalized_box_iou_loss(pred, rois.gt_boxes[:3], reduction='sum') / 5
    assert head.losses(out, rois)['loss_bbox'].item() == pytest.approx(want.item(), rel=1e-5)


@pytest.mark.parametrize('decoded', [True, False])
def test_rows_that_fill_up_have_no_gradient_whatever_they_hold(decoded):
    kind = {'type': 'GIoULoss'} if decoded else L1
    head, rois = _head(reg_decoded_bbox=decoded, loss_bbox=kind), _rois()
    out = _out(head, reg_scale=100.0)
    sum(v for k, v in head.losses(out, rois).items() if 'loss' in k).backward()
    assert out['cls'].grad.isfinite().all() and out['reg'].grad.isfinite().all()
    assert not out['cls'].grad[5:].any() and not out['reg'].grad[3:].any()
    assert out['cls'].grad[:5].any(1).all() and out['reg'].grad[:3].any(1).all()


def test_scores_leave_the_background_out():
    logits = torch.randn(4, K + 1)
    assert torch.allclose(_head().scores(logits), logits.softmax(1)[:, :K])


def test_decoding_some_rows_is_decoding_all_and_picking():
    head, rois = _head(), _rois()
    out = _out(head)
    rows, labels = torch.tensor([4, 0, 0]), torch.tensor([1, 2, 0])
    some = head.decode(rois.boxes[rows], out, labels, rows, torch.tensor([40., 30.]))
    for box, row, label in zip(some, rows, labels, strict=True):
        every = head.coder.decode(Priors(rois.boxes[row].expand(K, 4), torch.zeros(0), ()), out['reg'][row].view(K, 4),
                                  torch.tensor([40., 30.]))
        assert torch.allclose(box, every[label])


def test_background_is_refined_by_its_best_class():
    head, rois = _head(), _rois()
    out = _out(head)
    with torch.no_grad():
        out['cls'][:, K] += 100    # background is sure of itself; the best of the others counts
    refined = head.refine(rois.boxes, out, rois.labels, torch.full((M, 2), 1000.))
    best = out['cls'][:, :K].argmax(1)
    labels = torch.where(rois.labels == K, best, rois.labels)
    assert torch.allclose(refined, head.decode(rois.boxes, out, labels, max_shape=torch.tensor([1000., 1000.])))


def test_a_sigmoid_per_class_has_background_as_one_more():
    head, rois = _head(loss_cls={'type': 'CrossEntropyLoss', 'use_sigmoid': True}), _rois()
    out = _out(head)
    target = F.one_hot(rois.labels[:5], K + 1).float()
    want = F.binary_cross_entropy_with_logits(out['cls'][:5], target, reduction='sum') / 5
    assert head.losses(out, rois)['loss_cls'].item() == pytest.approx(want.item(), rel=1e-5)
    assert head.hardness(out, rois.labels).shape == (M,)


class _TwoStepLoss(nn.Module):
    """Objectness and classes, in two more logits than classes."""

    custom_cls_channels = custom_activation = custom_accuracy = True

    def get_cls_channels(self, num_classes):
        return num_classes + 2

    def get_activation(self, logits):
        return torch.cat([logits[:, :-2].sigmoid(), logits[:, -1:].sigmoid()], 1)

    def get_accuracy(self, logits, labels):
        return {'acc_objectness': torch.tensor(50.0)}

    def forward(self, pred, target, weight=None, avg_factor=None, reduction_override=None):
        return {'loss_cls_objectness': pred[:, -2:].sum(), 'loss_cls_classes': pred[:, :-2].sum()}


def test_a_loss_can_decide_on_logits_scores_and_accuracy():
    head = _head(loss_cls=_TwoStepLoss())
    out = head(torch.randn(M, 2, 2, 2))
    assert out['cls'].shape == (M, K + 2) and head.scores(out['cls']).shape == (M, K)
    assert set(head.losses(out, _rois())) == {'loss_cls_objectness', 'loss_cls_classes', 'acc_objectness', 'loss_bbox'}


@pytest.mark.parametrize(('kw', 'names'), [
    ({}, {'fc_cls', 'fc_reg'}),
    ({'with_avg_pool': True, 'with_reg': False}, {'fc_cls'}),
    ({'type': 'Shared2FCBBoxHead', 'fc_out_channels': 8}, {'fc_cls', 'fc_reg', 'shared_fcs.0', 'shared_fcs.1'}),
    ({'type': 'Shared4Conv1FCBBoxHead', 'fc_out_channels': 8, 'conv_out_channels': 4,
      'norm_cfg': {'type': 'GN', 'num_groups': 2}},
     {'fc_cls', 'fc_reg', 'shared_fcs.0', *(f'shared_convs.{i}.{n}' for i in range(4) for n in ('conv', 'gn'))}),
    ({'type': 'ConvFCBBoxHead', 'num_cls_convs': 1, 'num_reg_convs': 2, 'num_reg_fcs': 1, 'conv_out_channels': 4,
      'fc_out_channels': 8, 'roi_feat_size': (2, 3), 'cls_predictor_cfg': {'type': 'NormedLinear', 'tempearture': 20}},
     {'fc_cls', 'fc_reg', 'cls_convs.0.conv', 'reg_convs.0.conv', 'reg_convs.1.conv', 'reg_fcs.0'}),
    ({'type': 'ConvFCBBoxHead', 'num_shared_fcs': 1, 'num_cls_fcs': 1, 'with_avg_pool': True, 'fc_out_channels': 8},
     {'fc_cls', 'fc_reg', 'shared_fcs.0', 'cls_fcs.0'}),
])
def test_layers_have_the_known_names_and_fit_together(kw, names):
    head = _head(**kw)
    assert {k.rpartition('.')[0] for k in head.state_dict()} == names
    h, w = kw.get('roi_feat_size', (2, 2))
    out = head(torch.randn(M, 2, h, w))
    assert out['cls'].shape == (M, K + 1) and (not head.with_reg or out['reg'].shape == (M, 4 * K))
    assert head(torch.zeros(0, 2, h, w))['cls'].shape == (0, K + 1)


def test_predictors_begin_small():
    head = _head(in_channels=64, num_classes=100)
    assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert head.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not head.fc_cls.bias.any() and not head.fc_reg.bias.any()


def test_an_unknown_argument_is_told():
    with pytest.raises(ConfigError, match='reg_class_agnostic'):
        ROI_HEADS.build({'type': 'Shared2FCBBoxHead', 'reg_class_agnostics': True})
