"""Cross entropy, focal and regression losses against torch's own functions and against their equations by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from omnidet.errors import ConfigError
from omnidet.models.parts.losses import focal
from omnidet.registry import LOSSES


def build(kind, **options):
    return LOSSES.build({'type': kind, **options})


LOGITS = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))    # (B, N, K)
LABELS = tensor([[0, 3, 1, 2, 0], [3, 3, 1, 0, 2]])
WEIGHT = tensor([[1., 0., 2., 1., 1.], [0.5, 1., 1., 0., 1.]])


def test_softmax_cross_entropy_is_torchs():
    each = F.cross_entropy(LOGITS.reshape(10, 4), LABELS.reshape(10), reduction='none').reshape(2, 5)
    loss = build('CrossEntropyLoss', loss_weight=2.0)
    torch.testing.assert_close(loss(LOGITS, LABELS), 2 * each.mean())
    torch.testing.assert_close(loss(LOGITS, LABELS, WEIGHT, avg_factor=3.0), 2 * (each * WEIGHT).sum() / 3)
    torch.testing.assert_close(loss(LOGITS, LABELS, WEIGHT, reduction_override='none'), 2 * each * WEIGHT)


def test_classes_have_weights():
    weights = [0.5, 1.0, 2.0, 0.1]
    each = F.cross_entropy(LOGITS.reshape(10, 4), LABELS.reshape(10), reduction='none')
    want = (each * tensor(weights)[LABELS.reshape(10)]).sum() / 10
    torch.testing.assert_close(build('CrossEntropyLoss', class_weight=weights)(LOGITS, LABELS), want)


def test_an_ignored_label_costs_nothing_and_need_not_count():
    labels = LABELS.masked_fill(LABELS == 3, 255)
    each = F.cross_entropy(LOGITS.reshape(10, 4), labels.reshape(10), ignore_index=255, reduction='none')
    torch.testing.assert_close(build('CrossEntropyLoss', ignore_index=255)(LOGITS, labels), each.sum() / 10)
    torch.testing.assert_close(build('CrossEntropyLoss', ignore_index=255, avg_non_ignore=True)(LOGITS, labels),
                               each.sum() / 7)
    torch.testing.assert_close(build('CrossEntropyLoss')(LOGITS, labels, ignore_index=255), each.sum() / 10)


def test_sigmoid_cross_entropy_takes_every_class_by_itself():
    labels = tensor([[0, 4, 1, 4, 0], [3, 3, 1, 0, 2]])    # 4 is background
    want = F.binary_cross_entropy_with_logits(LOGITS, F.one_hot(labels, 5)[..., :4].float(), reduction='none')
    loss = build('CrossEntropyLoss', use_sigmoid=True)
    torch.testing.assert_close(loss(LOGITS, labels), want.mean())
    torch.testing.assert_close(loss(LOGITS, labels, WEIGHT, avg_factor=7), (want * WEIGHT[..., None]).sum() / 7)
    torch.testing.assert_close(loss(LOGITS, F.one_hot(labels, 5)[..., :4].float()), want.mean())


def test_sigmoid_cross_entropy_of_one_class_has_background_as_its_other_label():
    logits, labels = tensor([[2.0], [-1.0]]), tensor([0, 1])
    want = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert build('CrossEntropyLoss', use_sigmoid=True)(logits, labels).item() == pytest.approx(want)


def test_sigmoid_cross_entropy_ignores_labels_and_weighs_positives():
    labels = tensor([[0, 255, 1, 4, 0], [3, -1, 1, 0, 2]])
    counted = (labels >= 0) & (labels != 255)
    target = F.one_hot(labels.clamp(0, 4), 5)[..., :4].float()
    want = F.binary_cross_entropy_with_logits(LOGITS, target, pos_weight=tensor([1., 2., 3., 4.]), reduction='none')
    loss = build('CrossEntropyLoss', use_sigmoid=True, ignore_index=255, class_weight=[1, 2, 3, 4], avg_non_ignore=True)
    torch.testing.assert_close(loss(LOGITS, labels), want[counted].sum() / (8 * 4))


def test_mask_cross_entropy_is_the_mean_over_pixels_and_instances():
    g = torch.Generator().manual_seed(1)
    pred, target = torch.randn(3, 4, 5, generator=g), (torch.rand(3, 4, 5, generator=g) > 0.5).float()
    each = F.binary_cross_entropy_with_logits(pred, target, reduction='none').mean((1, 2))
    loss = build('CrossEntropyLoss', use_mask=True, loss_weight=0.5)
    torch.testing.assert_close(loss(pred, target), 0.5 * each.mean())
    torch.testing.assert_close(loss(pred, target, tensor([1., 0., 1.]), avg_factor=2), 0.5 * (each[0] + each[2]) / 2)
    assert loss(pred[:0], target[:0]) == 0


def test_masks_and_sigmoids_exclude_each_other():
    with pytest.raises(ConfigError, match='exclude'):
        build('CrossEntropyLoss', use_sigmoid=True, use_mask=True)


def focal_by_hand(x, is_label, gamma, alpha):
    p = 1 / (1 + math.exp(-x))
    return -alpha * (1 - p) ** gamma * math.log(p) if is_label else -(1 - alpha) * p ** gamma * math.log(1 - p)


@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_focal_loss_is_the_papers_equation(gamma, alpha):
    labels = tensor([[0, 4, 1, 4, 0], [3, 3, 1, 0, 2]])
    want = [[[focal_by_hand(x, k == label, gamma, alpha) for k, x in enumerate(row)]
             for row, label in zip(rows, names, strict=True)]
            for rows, names in zip(LOGITS.tolist(), labels.tolist(), strict=True)]
    loss = build('FocalLoss', gamma=gamma, alpha=alpha)
    torch.testing.assert_close(loss(LOGITS, labels, reduction_override='none'), tensor(want))
    torch.testing.assert_close(loss(LOGITS, labels, WEIGHT, avg_factor=5), (tensor(want) * WEIGHT[..., None]).sum() / 5)
    torch.testing.assert_close(loss(LOGITS, F.one_hot(labels, 5)[..., :4]), tensor(want).mean())
    activated = build('FocalLoss', gamma=gamma, alpha=alpha, activated=True)
    torch.testing.assert_close(activated(LOGITS.sigmoid(), labels), tensor(want).mean())


def test_focal_loss_stays_finite_far_from_the_label():
    logits = tensor([[200., -200.]], requires_grad=True)
    loss = build('FocalLoss')(logits, tensor([1]), avg_factor=1)
    loss.backward()
    assert loss.item() == pytest.approx(0.75 * 200 + 0.25 * 200) and logits.grad.tolist() == [[0.75, -0.25]]


def test_focal_loss_knows_no_softmax():
    with pytest.raises(ConfigError, match='use_sigmoid'):
        build('FocalLoss', use_sigmoid=False)


PRED = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)) * 2
TARGET = torch.randn(3, 4, generator=torch.Generator().manual_seed(3)) * 2


@pytest.mark.parametrize(('loss', 'each'), [
    (build('L1Loss'), (PRED - TARGET).abs()), (build('MSELoss'), (PRED - TARGET) ** 2),
    (build('SmoothL1Loss', beta=0.5), F.smooth_l1_loss(PRED, TARGET, reduction='none', beta=0.5)),
    (build('SmoothL1Loss', beta=0.0), (PRED - TARGET).abs())])
def test_regression_losses_are_torchs(loss, each):
    weight = tensor([1., 0., 2.])
    torch.testing.assert_close(loss(PRED, TARGET), each.mean())
    torch.testing.assert_close(loss(PRED, TARGET, weight, avg_factor=3), (each * weight[:, None]).sum() / 3)
    torch.testing.assert_close(loss(PRED, TARGET, weight[:, None].expand(3, 4), avg_factor=3),
                               (each * weight[:, None]).sum() / 3)
    assert loss(PRED[:0], TARGET[:0]) == 0


def test_balanced_l1_has_the_papers_gradient_and_is_continuous():
    """arXiv:1904.02701, equation 7: alpha log(b |x| + 1) below 1 and gamma above; the loss begins at 0."""
    alpha, gamma = 0.5, 1.5
    x = tensor([0., 0.2, -0.7, 0.9999999, 1.0000001, 3.0], requires_grad=True)
    loss = build('BalancedL1Loss', alpha=alpha, gamma=gamma, beta=1.0)(x, torch.zeros(6), reduction_override='none')
    loss.sum().backward()
    b = math.exp(gamma / alpha) - 1
    slope = [alpha * math.log(b * abs(v) + 1) if abs(v) < 1 else gamma for v in x.tolist()]
    assert x.grad[1:].abs().tolist() == pytest.approx(slope[1:], rel=1e-4)
    assert loss[0] == 0 and loss[3].item() == pytest.approx(loss[4].item(), rel=1e-5)
    assert (loss[5] - loss[4]).item() == pytest.approx(gamma * 2, rel=1e-5)


def test_bounded_iou_loss_is_the_papers_bound_made_smooth():
    pred, target = tensor([[2., 1., 12., 6.]]), tensor([[0., 0., 10., 10.]])
    # centres (7, 3.5) and (5, 5), sides (10, 5) and (10, 10)
    terms = [1 - (10 - 4) / (10 + 4 + 1e-3), 1 - (10 - 3) / (10 + 3 + 1e-3),
             1 - 10 / (10 + 1e-3), 1 - 5 / (10 + 1e-3)]
    want = [t - 0.1 if t >= 0.2 else t * t / 0.4 for t in terms]
    got = build('BoundedIoULoss', beta=0.2, eps=1e-3)(pred, target, reduction_override='none')
    assert got[0].tolist() == pytest.approx(want, abs=1e-6)
    apart = build('BoundedIoULoss')(tensor([[100., 0., 110., 10.]]), target, reduction_override='none')
    assert apart[0, 0].item() == pytest.approx(0.9)    # the bound of boxes apart is 0


def test_focal_loss_and_its_gradient_do_not_depend_on_how_they_are_computed(monkeypatch):
    """The sum over classes has a backward pass of its own; elementwise torch differentiates."""
    monkeypatch.setattr(focal, 'BLOCK_CPU', 12)    # three rows at a time
    labels = tensor([[0, 4, 1, 4, 0], [3, 3, 1, 0, 2]])
    for gamma in (2.0, 1.3, 0.0):
        loss, grads = build('FocalLoss', gamma=gamma, alpha=0.3, loss_weight=2.0), []
        for reduction in ('mean', 'none'):
            x = (LOGITS * 5).requires_grad_()
            value = loss(x, labels, WEIGHT, avg_factor=7 if reduction == 'mean' else None, reduction_override=reduction)
            value = value if reduction == 'mean' else value.sum() / 7
            value.backward()
            grads.append((value.detach(), x.grad))
        torch.testing.assert_close(grads[0], grads[1])
    x = LOGITS.double().reshape(10, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: focal._FocalSum.apply(x, labels.flatten(), 2.0, 0.25), x)
