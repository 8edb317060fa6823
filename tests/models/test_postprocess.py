"""From scores at priors to detections, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from omnidet.errors import ConfigError
from omnidet.models.parts.coders.distance import DistancePointBBoxCoder
from omnidet.models.parts.postprocess import GridPostprocess
from omnidet.models.parts.priors.points import MlvlPointGenerator, inside_image
from omnidet.structures import ImageMeta, Priors

BOXES = tensor([[0., 0., 10., 10.], [1., 0., 11., 10.], [30., 30., 40., 40.], [0., 0., 50., 5.]])


def _run(scores, level_sizes=(4,), rescale=False, meta=None, **options):
    meta = meta or ImageMeta((64, 64), (64, 64))
    return GridPostprocess(**options)(scores[None], BOXES[None], level_sizes, lambda i, d, shape: d, [meta], rescale)[0]


def test_one_prior_may_give_several_classes():
    r = _run(tensor([[0.9, 0.8], [0, 0], [0.1, 0.3], [0, 0]]), score_thr=0.2)
    assert r.labels.tolist() == [0, 1, 1] and r.boxes[2].tolist() == [30, 30, 40, 40]
    assert r.scores.tolist() == pytest.approx([0.9, 0.8, 0.3])


def test_a_score_at_the_threshold_is_dropped():
    assert len(_run(tensor([[0.5], [0.25], [0.0], [0.0]]), score_thr=0.25)) == 1


def test_each_level_hands_on_its_best():
    scores = tensor([[0.9], [0.8], [0.1], [0.05]])
    assert _run(scores, level_sizes=(2, 2), nms_pre=1).scores.tolist() == pytest.approx([0.9, 0.1])


def test_overlapping_boxes_of_a_class_are_suppressed_after_small_ones_went():
    scores = tensor([[0.9], [0.8], [0.7], [0.6]])
    r = _run(scores, nms={'type': 'nms', 'iou_threshold': 0.5}, min_bbox_size=5)
    assert r.boxes.tolist() == BOXES[[0, 2]].tolist()
    assert len(_run(scores, nms={'type': 'nms', 'iou_threshold': 0.5}, max_per_img=1)) == 1


def test_boxes_come_back_to_the_files_pixels():
    meta = ImageMeta((64, 64), (128, 32), scale_factor=(2.0, 0.5))
    assert _run(tensor([[0.9], [0], [0], [0]]), meta=meta, rescale=True).boxes.tolist() == [[0, 0, 5, 20]]


def test_nms_without_a_type_is_told():
    with pytest.raises(ConfigError, match='nms'):
        GridPostprocess(nms={'iou_threshold': 0.5})


def test_points_lie_on_each_levels_grid():
    priors = MlvlPointGenerator(strides=[8, 16], offset=0.5)([(1, 2), (1, 1)])
    assert priors.boxes.tolist() == [[4, 4, 4, 4], [12, 4, 12, 4], [8, 8, 8, 8]]
    assert priors.strides.tolist() == [8, 8, 16] and priors.level_sizes == (2, 1)


def test_a_prior_is_inside_where_its_cell_begins_inside():
    priors = MlvlPointGenerator(strides=[8], offset=0)([(2, 3)])
    inside = inside_image(priors, tensor([[16, 24], [9, 16]]))
    assert inside.tolist() == [[True] * 6, [True, True, False, True, True, False]]


def test_allowed_border_keeps_anchors_within_the_image():
    anchors = Priors(tensor([[-4., -4., 12., 12.], [4., 4., 20., 20.]]), tensor([8., 8.]), (2,))
    size = tensor([[24, 24]])
    assert inside_image(anchors, size, -1).tolist() == [[True, True]]
    assert inside_image(anchors, size, 0).tolist() == [[False, True]]


def test_the_distance_coder_is_its_own_inverse_and_clips():
    priors = MlvlPointGenerator(strides=[8], offset=0.5)([(1, 2)])
    boxes = tensor([[[1., 2., 9., 30.], [4., 0., 13., 6.]]])
    coder = DistancePointBBoxCoder()
    deltas = coder.encode(priors, boxes)
    assert deltas[0, 0].tolist() == [3, 2, 5, 26] and torch.equal(coder.decode(priors, deltas), boxes)
    assert coder.decode(priors, deltas, tensor([[[8, 10]]]))[0].tolist() == [[1, 2, 9, 8], [4, 0, 10, 6]]
    assert torch.equal(DistancePointBBoxCoder(clip_border=False).decode(priors, deltas, tensor([[[8, 10]]])), boxes)
