"""Non-maximum suppression by hand."""

from __future__ import annotations

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.ops.nms import batched_nms

BOXES = torch.tensor([[0., 0., 10., 10.], [0., 0., 10., 8.], [0., 0., 10., 10.], [50., 50., 60., 60.]])
SCORES = torch.tensor([0.5, 0.9, 0.8, 0.1])
LABELS = torch.tensor([0, 0, 1, 0])


def test_a_better_box_of_the_same_class_suppresses():
    assert batched_nms(BOXES, SCORES, LABELS, iou_threshold=0.5).keep.tolist() == [1, 2, 3]


def test_overlap_at_the_threshold_is_kept():
    half = torch.tensor([[0., 0., 10., 10.], [0., 0., 10., 5.]])    # IoU 0.5, exact in floating point
    assert batched_nms(half, SCORES[:2], LABELS[:2], iou_threshold=0.5).keep.tolist() == [1, 0]
    assert batched_nms(half, SCORES[:2], LABELS[:2], iou_threshold=0.49).keep.tolist() == [1]


def test_class_agnostic_suppresses_other_classes():
    assert batched_nms(BOXES, SCORES, LABELS, iou_threshold=0.5, class_agnostic=True).keep.tolist() == [1, 3]


def test_max_num_keeps_the_best():
    assert batched_nms(BOXES, SCORES, LABELS, iou_threshold=0.5, max_num=1).keep.tolist() == [1]


def test_nothing_comes_from_nothing():
    assert batched_nms(BOXES[:0], SCORES[:0], LABELS[:0]).keep.tolist() == []


@pytest.mark.parametrize('options', [{'type': 'best_nms'}, {'iou_thresh': 0.5}])
def test_unknown_types_and_options_are_refused(options):
    with pytest.raises(ConfigError, match='nms'):
        batched_nms(BOXES, SCORES, LABELS, **options)
