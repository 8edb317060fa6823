"""Stretching of maps, held against interpolating whole ones twice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omnidet.ops.stretch import stretch, stretch_masks

CASES = [((16, 20), (64, 80), (60, 71), (103, 122)), ((16, 20), (64, 80), (64, 80), (64, 80)),
         ((16, 20), (64, 80), (50, 80), (21, 17)), ((3, 2), (12, 8), (12, 7), (300, 40))]


def twice(maps, padded, image, out):
    maps = F.interpolate(maps[None], size=padded, mode='bilinear', align_corners=False)[..., :image[0], :image[1]]
    return F.interpolate(maps, size=out, mode='bilinear', align_corners=False)[0]


@pytest.mark.parametrize('case', CASES)
def test_two_resizings_are_one(case):
    torch.manual_seed(0)
    maps = torch.randn(5, *case[0])
    to = stretch(*case, torch.device('cpu'))
    assert to.size == case[3]
    torch.testing.assert_close(to(maps), twice(maps, *case[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('case', CASES)
def test_masks_boxes_and_scores_equal_those_of_whole_maps(case):
    torch.manual_seed(0)
    maps = torch.randn(6, *case[0]) - 1
    maps[1] = -5    # empty
    maps[2] = -20
    maps[2, :1, -1:] = 1    # one corner
    maps[3] = 5    # all
    maps[4, 1:] = -3
    masks, boxes, scores = stretch_masks(maps, stretch(*case, torch.device('cpu')))
    logits = twice(maps, *case[1:])
    want = logits > 0
    clear = logits.abs() > 1e-4    # rounding decides the others
    assert torch.equal(masks.dense()[clear], want[clear]) and masks.shape == want.shape
    sure = (logits.sigmoid() * want).flatten(1).sum(1) / (want.flatten(1).sum(1) + 1e-6)
    torch.testing.assert_close(scores, sure, rtol=1e-3, atol=1e-4)
    for mask, box in zip(masks.dense(), boxes, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        around = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
        assert box.tolist() == [float(v) for v in around]


def test_no_maps_make_no_masks():
    masks, boxes, scores = stretch_masks(torch.zeros(0, 4, 5), stretch((4, 5), (16, 20), (16, 20), (9, 9),
                                                                       torch.device('cpu')))
    assert masks.shape == (0, 9, 9) and boxes.shape == (0, 4) and scores.shape == (0,)
