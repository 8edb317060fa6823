"""Which regions of interest a stage's losses see."""

from __future__ import annotations

import pytest
import torch

from omnidet.models.roi_heads.sampling import as_rois, sample_rois
from omnidet.ops.boxes import pairwise_iou
from omnidet.registry import ASSIGNERS, SAMPLERS
from omnidet.structures import Targets

K = 5


def _assigner(**kw):
    return ASSIGNERS.build({'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.5, 'min_pos_iou': 0.5,
                            'match_low_quality': False, **kw})


def _sampler(num=10 ** 6, add_gt=True, kind='RandomSampler', pos_fraction=0.25):
    return SAMPLERS.build({'type': kind, 'num': num, 'pos_fraction': pos_fraction, 'add_gt_as_proposals': add_gt})


def _targets(*items):
    return Targets.collate([{'boxes': torch.tensor(b).float().reshape(-1, 4), 'labels': torch.tensor(c).long(),
                             **({} if not more else more[0])} for b, c, *more in items], (200, 200))


def _boxes(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * 120
    return torch.cat([corner, corner + 10 + torch.rand(n, 2, generator=g) * 60], 1)


def _rows(rois, i):
    """The sampled rows of an image as a set of (box, label, given)."""
    return sorted((tuple(b), label, given) for b, label, given, s in zip(
        rois.boxes[i].tolist(), rois.labels[i].tolist(), rois.given[i].tolist(), rois.sampled[i].tolist(),
        strict=True) if s)


def test_labels_are_those_of_a_loop_over_proposals():
    boxes = torch.stack([_boxes(40, 1), _boxes(40, 2)])
    valid = torch.ones(2, 40, dtype=torch.bool)
    valid[1, 25:] = False
    targets = _targets((_boxes(3, 3).tolist(), [0, 4, 2]), (_boxes(2, 2)[:2].tolist(), [1, 1]))
    rois = sample_rois(boxes, valid, targets, _assigner(), _sampler(), K)
    for i in range(2):
        gt, labels = targets.boxes[i][targets.valid[i]], targets.labels[i][targets.valid[i]]
        want = [(tuple(g), label, True) for g, label in zip(gt.tolist(), labels.tolist(), strict=True)]
        for box in boxes[i][valid[i]]:
            iou, at = pairwise_iou(gt, box[None])[:, 0].max(0)
            want.append((tuple(box.tolist()), int(labels[at]) if iou >= 0.5 else K, False))
        assert _rows(rois, i) == sorted(want)


def test_a_batch_is_its_images_one_by_one():
    boxes = torch.stack([_boxes(30, 1), _boxes(30, 2)])
    valid = torch.ones(2, 30, dtype=torch.bool)
    valid[0, 12:] = False
    items = [(_boxes(5, 1)[:5].tolist(), [0, 1, 2, 3, 4]), (_boxes(1, 2).tolist(), [3])]
    both = sample_rois(boxes, valid, _targets(*items), _assigner(), _sampler(), K)
    for i, item in enumerate(items):
        n = int(valid[i].sum())
        alone = sample_rois(boxes[i:i + 1, :n], valid[i:i + 1, :n], _targets(item), _assigner(), _sampler(), K)
        assert _rows(both, i) == _rows(alone, 0)


def test_objects_in_one_place_each_keep_their_own_box():
    rois = sample_rois(_boxes(3)[None], torch.ones(1, 3, dtype=torch.bool),
                       _targets(([[5, 5, 50, 50]] * 2, [1, 3])), _assigner(), _sampler(), K)
    assert sorted(rois.labels[0, rois.given[0]].tolist()) == [1, 3]


def test_without_objects_all_is_background():
    rois = sample_rois(_boxes(8)[None], torch.ones(1, 8, dtype=torch.bool), _targets(([], [])), _assigner(),
                       _sampler(), K)
    assert rois.sampled.sum() == 8 and not rois.positive.any() and (rois.labels == K).all()


def test_a_budget_draws_few_positives_and_puts_them_first():
    gt = _boxes(6, 7)
    boxes = torch.cat([gt + 1, _boxes(50, 9) + 300])[None]    # six good ones, fifty far away
    rois = sample_rois(boxes, torch.ones(1, 56, dtype=torch.bool), _targets((gt.tolist(), [0] * 6)), _assigner(),
                       _sampler(16, add_gt=False), K)
    assert rois.boxes.shape == (1, 16, 4) and rois.sampled.all()
    assert rois.positive[0].tolist() == [True] * 4 + [False] * 12


def test_rows_beyond_the_proposals_are_not_sampled():
    valid = torch.tensor([[True] * 3 + [False] * 5])
    rois = sample_rois(_boxes(8)[None], valid, _targets(([], [])), _assigner(), _sampler(6, add_gt=False), K)
    assert rois.boxes.shape == (1, 6, 4) and rois.sampled.sum() == 3


def test_proposals_in_a_crowd_are_neither_object_nor_background():
    boxes = torch.tensor([[10., 10., 40., 40.], [120., 120., 160., 160.]])[None]
    targets = _targets(([[0, 0, 100, 100], [150, 150, 190, 190]], [0, 1], {'ignore': [True, False]}))
    rois = sample_rois(boxes, torch.ones(1, 2, dtype=torch.bool), targets, _assigner(ignore_iof_thr=0.5),
                       _sampler(), K)
    assert _rows(rois, 0) == [((120., 120., 160., 160.), K, False), ((150., 150., 190., 190.), 1, True)]


def test_hard_example_mining_takes_the_highest_losses():
    boxes, loss = _boxes(20)[None], torch.rand(1, 20, generator=torch.Generator().manual_seed(4))
    rois = sample_rois(boxes, torch.ones(1, 20, dtype=torch.bool), _targets(([], [])), _assigner(),
                       _sampler(5, add_gt=False, kind='OHEMSampler'), K, lambda b, labels: loss)
    want = boxes[0, loss[0].topk(5).indices]
    assert sorted(map(tuple, rois.boxes[0].tolist())) == sorted(map(tuple, want.tolist()))


def test_rois_name_their_image():
    rois = as_rois(torch.arange(24.).view(2, 3, 4))
    assert rois[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(rois[4, 1:], torch.tensor([16., 17., 18., 19.]))


@pytest.mark.parametrize('add_gt', [True, False])
def test_many_objects_and_few_proposals(add_gt):
    gt = _boxes(500, 5)
    rois = sample_rois(_boxes(10)[None], torch.ones(1, 10, dtype=torch.bool), _targets((gt.tolist(), [2] * 500)),
                       _assigner(), _sampler(128, add_gt=add_gt, pos_fraction=1.0), K)
    assert rois.boxes.shape[1] == (128 if add_gt else 10)
    assert rois.positive.sum() == (128 if add_gt else rois.positive.sum())
