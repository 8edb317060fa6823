"""Matrix NMS against the published equation, written as loops."""

from __future__ import annotations

import math

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.ops.matrix_nms import matrix_nms


def blobs(K, classes, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, K, 1, 1, generator=g) * 10
    side = 4 + torch.rand(K, 1, 1, generator=g) * 8
    at = torch.arange(20.)
    masks = (at - x).abs().le(side / 2) & (at[:, None] - y).abs().le(side / 2)
    return masks, torch.randint(classes, (K,), generator=g), torch.rand(K, generator=g)


def by_loops(masks, labels, scores, kernel, sigma):
    """decay_j = min over better i of f(iou_ij) / f(iou_*i), iou_*i = max over what is better than i."""
    def iou(i, j):
        if labels[i] != labels[j]:
            return 0.0
        return (masks[i] & masks[j]).sum().item() / (masks[i] | masks[j]).sum().item()

    def f(x):
        return math.exp(-sigma * x * x) if kernel == 'gaussian' else 1 - x
    out = {}
    for j in range(len(scores)):
        decay = 1.0
        for i in range(len(scores)):
            if scores[i] > scores[j]:
                worst = max((iou(k, i) for k in range(len(scores)) if scores[k] > scores[i]), default=0.0)
                decay = min(decay, f(iou(i, j)) / f(worst))
        out[j] = scores[j].item() * decay
    return out


@pytest.mark.parametrize('kernel, sigma', [('gaussian', 2.0), ('gaussian', 0.5), ('linear', 2.0)])
def test_scores_fall_as_the_equation_says(kernel, sigma):
    masks, labels, scores = blobs(12, 2)
    keep, got = matrix_nms(masks, labels, scores, kernel=kernel, sigma=sigma)
    want = by_loops(masks, labels, scores, kernel, sigma)
    assert sorted(keep.tolist()) == list(range(12))
    assert got.tolist() == pytest.approx([want[k] for k in keep.tolist()], rel=1e-5)
    assert got.tolist() == sorted(got.tolist(), reverse=True)
    assert (got < scores[keep] - 1e-3).any()


def test_limits_keep_the_best():
    masks, labels, scores = blobs(12, 2)
    _, all_scores = matrix_nms(masks, labels, scores)
    keep, got = matrix_nms(masks, labels, scores, max_num=4)
    assert len(keep) == 4 and torch.equal(got, all_scores[:4])
    _, got = matrix_nms(masks, labels, scores, filter_thr=0.3)
    assert torch.equal(got, all_scores[all_scores >= 0.3]) and 0 < len(got) < 12
    keep, _ = matrix_nms(masks, labels, scores, nms_pre=5)
    assert set(keep.tolist()) == set(scores.topk(5).indices.tolist())


def test_repeated_mask_of_one_class_goes_and_of_another_stays():
    mask = torch.ones(1, 4, 4, dtype=torch.bool).expand(3, 4, 4)
    keep, got = matrix_nms(mask, torch.tensor([0, 0, 1]), torch.tensor([0.9, 0.8, 0.7]), kernel='linear')
    assert keep.tolist() == [0, 2, 1] and got.tolist() == pytest.approx([0.9, 0.7, 0.0], abs=1e-6)


def test_nothing_gives_nothing():
    keep, scores = matrix_nms(torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert len(keep) == len(scores) == 0


def test_unknown_kernel_is_refused():
    with pytest.raises(ConfigError, match='gaussian'):
        matrix_nms(*blobs(2, 1), kernel='cubic')
