"""Box geometry against hand-worked cases."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from omnidet.ops import boxes as ops

UNIT = tensor([0., 0., 2., 2.])
SHIFTED = tensor([1., 1., 3., 3.])    # overlap 1, union 7, hull 9
FAR = tensor([10., 0., 12., 2.])    # overlap 0, hull 24


def test_iou_of_shifted_squares():
    assert ops.aligned_iou(UNIT, SHIFTED).item() == pytest.approx(1 / 7)


def test_giou_subtracts_the_empty_part_of_the_hull():
    assert ops.aligned_giou(UNIT, SHIFTED).item() == pytest.approx(1 / 7 - 2 / 9)
    assert ops.aligned_giou(UNIT, FAR).item() == pytest.approx(-(24 - 8) / 24)


def test_diou_subtracts_the_distance_of_the_centres():
    assert ops.aligned_diou(UNIT, SHIFTED).item() == pytest.approx(1 / 7 - 2 / 18, abs=1e-6)


def test_ciou_counts_the_aspect_ratio_above_half_overlap():
    a, b = tensor([0., 0., 4., 4.]), tensor([0., 0., 4., 3.])
    iou, v = 12 / 16, 4 / math.pi ** 2 * (math.atan(4 / 3) - math.atan(1)) ** 2
    diou = iou - 0.25 / 32
    assert ops.aligned_ciou(a, b).item() == pytest.approx(diou - v / (1 - iou + v) * v, abs=1e-5)
    narrow = tensor([0., 0., 4., 1.])    # IoU 1/4: the aspect ratio does not count
    assert ops.aligned_ciou(a, narrow).item() == pytest.approx(ops.aligned_diou(a, narrow).item())


@pytest.mark.parametrize('overlap', [ops.aligned_iou, ops.aligned_giou, ops.aligned_diou, ops.aligned_ciou])
def test_overlap_of_a_box_with_itself_is_one_and_points_stay_finite(overlap):
    assert overlap(UNIT, UNIT).item() == pytest.approx(1, abs=1e-5)
    point = tensor([1., 1., 1., 1.], requires_grad=True)
    value = overlap(point, point.detach())
    value.backward()
    assert value.isfinite() and point.grad.isfinite().all()


def test_pairwise_iou_equals_a_loop_over_pairs():
    g = torch.Generator().manual_seed(0)
    xy = torch.rand(2, 7, 2, generator=g) * 50
    a = torch.cat([xy, xy + 5 + 40 * torch.rand(2, 7, 2, generator=g)], -1)
    b = a[:, :3] + 4
    got = ops.pairwise_iou(a, b)
    for i in range(2):
        for n in range(7):
            for m in range(3):
                x0, y0, x1, y1 = a[i, n].tolist()
                u0, v0, u1, v1 = b[i, m].tolist()
                inter = max(0, min(x1, u1) - max(x0, u0)) * max(0, min(y1, v1) - max(y0, v0))
                union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - inter
                assert got[i, n, m].item() == pytest.approx(inter / union, abs=1e-5)


def test_distances_and_boxes_are_inverse():
    points, boxes = tensor([[5., 6.], [0., 0.]]), tensor([[1., 2., 9., 7.], [-1., -2., 3., 4.]])
    distances = ops.box_to_distance(points, boxes)
    assert distances[0].tolist() == [4, 4, 4, 1]
    assert torch.equal(ops.distance_to_box(points, distances), boxes)


def test_clipping_keeps_every_corner_inside_its_own_image():
    boxes = tensor([[[-5., -5., 50., 50.]], [[-5., 3., 50., 50.]]])
    got = ops.clip_boxes(boxes, tensor([[10, 20], [40, 30]])[:, None])
    assert got.tolist() == [[[0, 0, 20, 10]], [[0, 3, 30, 40]]]


def test_area_of_a_swapped_box_is_zero():
    assert ops.box_area(tensor([[0., 0., 2., 3.], [2., 0., 0., 3.]])).tolist() == [6, 0]
