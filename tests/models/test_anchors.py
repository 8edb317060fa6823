"""Anchors by hand, and against the sizes that the papers give."""

from __future__ import annotations

import pytest
import torch

from omnidet.errors import ConfigError
from omnidet.models.parts.priors.anchors import AnchorGenerator, LegacyAnchorGenerator
from omnidet.models.parts.priors.points import inside_image
from omnidet.models.parts.priors.ssd import LegacySSDAnchorGenerator, SSDAnchorGenerator


def sides(boxes):
    return boxes[:, 2:] - boxes[:, :2]


def test_an_anchor_stands_around_the_corner_of_every_cell():
    priors = AnchorGenerator(strides=[4, 8], ratios=[1.0], scales=[2])([(1, 2), (2, 1)])
    assert priors.boxes.tolist() == [[-4, -4, 4, 4], [0, -4, 8, 4], [-8, -8, 8, 8], [-8, 0, 8, 16]]
    assert priors.strides.tolist() == [4, 4, 8, 8] and priors.level_sizes == (2, 2)


def test_a_ratio_is_height_over_width_and_keeps_the_area():
    base = AnchorGenerator(strides=[8], ratios=[0.25, 4.0], scales=[2])([(1, 1)]).boxes
    assert sides(base).tolist() == [[32, 8], [8, 32]]


def test_scale_major_numbers_anchors_ratio_by_ratio():
    kw = {'strides': [1], 'ratios': [1.0, 4.0], 'scales': [8, 16]}
    assert sides(AnchorGenerator(**kw)([(1, 1)]).boxes)[:, 0].tolist() == [8, 16, 4, 8]
    assert sides(AnchorGenerator(**kw, scale_major=False)([(1, 1)]).boxes)[:, 0].tolist() == [8, 4, 16, 8]


def test_an_octave_is_cut_into_even_steps():
    generator = AnchorGenerator(strides=[8, 16], ratios=[1.0], octave_base_scale=4, scales_per_octave=3)
    widths = sides(generator([(1, 1), (0, 0)]).boxes)[:, 0].tolist()
    assert widths == pytest.approx([32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)])
    assert generator.num_base_priors == [3, 3]


def test_anchors_of_a_cell_follow_each_other_before_the_next_cell():
    boxes = AnchorGenerator(strides=[16], ratios=[1.0], scales=[1, 2])([(2, 2)]).boxes
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centers.tolist() == [[0, 0], [0, 0], [16, 0], [16, 0], [0, 16], [0, 16], [16, 16], [16, 16]]


def test_centers_and_offsets_and_base_sizes_move_and_scale_the_first_anchor():
    boxes = AnchorGenerator(strides=[8], ratios=[1.0], scales=[1], center_offset=0.5)([(1, 1)]).boxes
    assert boxes.tolist() == [[0, 0, 8, 8]]
    generator = AnchorGenerator(strides=[(8, 4)], ratios=[1.0], scales=[1], base_sizes=[6], centers=[(1, 2)])
    boxes = generator([(2, 2)]).boxes
    assert boxes.tolist() == [[-2, -1, 4, 5], [6, -1, 12, 5], [-2, 3, 4, 9], [6, 3, 12, 9]]


def test_legacy_anchors_count_both_ends_and_lie_on_whole_pixels():
    """The worked example of the Faster R-CNN release: base 16, scale 8, ratio 1 gives (-56, -56, 71, 71)."""
    boxes = LegacyAnchorGenerator(strides=[16], ratios=[1.0, 0.5], scales=[8], center_offset=0.5)([(1, 1)]).boxes
    assert boxes[0].tolist() == [-56, -56, 71, 71]
    w, h = 128 * 2 ** 0.5, 128 / 2 ** 0.5
    assert boxes[1].tolist() == [round(7.5 - (w - 1) / 2), round(7.5 - (h - 1) / 2), round(7.5 + (w - 1) / 2),
                                 round(7.5 + (h - 1) / 2)]


SSD300 = {'strides': [8, 16, 32, 64, 100, 300], 'ratios': [[2], [2, 3], [2, 3], [2, 3], [2], [2]]}


def test_ssd_has_8732_boxes_of_the_published_sizes():
    """arXiv:1512.02325, section 3: 38, 19, 10, 5, 3, 1 cells and 8732 boxes; on VOC from 30 to 315 px."""
    least, largest = [30, 60, 111, 162, 213, 264], [60, 111, 162, 213, 264, 315]
    generator = SSDAnchorGenerator(**SSD300, basesize_ratio_range=(0.2, 0.9), input_size=300)
    priors = generator([(n, n) for n in (38, 19, 10, 5, 3, 1)])
    assert len(priors.boxes) == 8732 and generator.num_base_priors == [4, 6, 6, 6, 4, 4]
    starts = torch.tensor([0, *priors.level_sizes[:-1]]).cumsum(0)
    first, second = sides(priors.boxes[starts])[:, 0], sides(priors.boxes[starts + 1])[:, 0]
    assert first.tolist() == pytest.approx(least)
    assert second.tolist() == pytest.approx([(a * b) ** 0.5 for a, b in zip(least, largest, strict=True)])
    assert priors.boxes[0].tolist() == [-11, -11, 19, 19]
    wide, tall = sides(priors.boxes[2:4]).tolist()
    assert wide == pytest.approx([30 * 2 ** 0.5, 30 / 2 ** 0.5]) and tall == pytest.approx(wide[::-1])


def test_ssd_takes_given_sizes():
    boxes = SSDAnchorGenerator(strides=[16], ratios=[[2, 3]], min_sizes=[48], max_sizes=[100])([(1, 1)]).boxes
    assert sides(boxes)[:, 0].tolist() == pytest.approx(
        [48, 4800 ** 0.5, 48 * 2 ** 0.5, 48 / 2 ** 0.5, 48 * 3 ** 0.5, 48 / 3 ** 0.5])


def test_legacy_ssd_boxes_lie_on_whole_pixels():
    boxes = LegacySSDAnchorGenerator(**SSD300)([(1, 1)] * 6).boxes
    assert torch.equal(boxes, boxes.round()) and boxes[0].tolist() == [-6, -6, 14, 14]    # 21 px around 3.5, rounded


@pytest.mark.parametrize('wrong', [
    {'ratios': [1.0]}, {'ratios': [1.0], 'scales': [8], 'octave_base_scale': 4, 'scales_per_octave': 3},
    {'ratios': [1.0], 'scales': [8], 'base_sizes': [4, 8]}, {'ratios': [1.0], 'scales': [8], 'centers': [(0, 0)] * 2}])
def test_contradicting_arguments_are_told(wrong):
    with pytest.raises(ConfigError, match='anchor_generator'):
        AnchorGenerator(strides=[8], **wrong)


@pytest.mark.parametrize('wrong', [{'input_size': 400}, {'basesize_ratio_range': (0.3, 0.9)}, {'min_sizes': [10] * 6}])
def test_unknown_ssd_sizes_are_told(wrong):
    with pytest.raises(ConfigError, match='anchor_generator'):
        SSDAnchorGenerator(**SSD300, **wrong)


@pytest.mark.parametrize('generator', [
    AnchorGenerator(strides=[8, 100], ratios=[0.5, 1.0, 2.0], scales=[8]),
    LegacyAnchorGenerator(strides=[8, 100], ratios=[0.5, 1.0, 2.0], scales=[8], center_offset=0.5),
    SSDAnchorGenerator(strides=[8, 100], ratios=[[2], [2, 3]], min_sizes=[20, 30], max_sizes=[30, 40])])
def test_anchors_of_cells_that_begin_inside_are_inside(generator):
    priors = generator([(6, 6), (2, 2)])
    inside = inside_image(priors, torch.tensor([[25, 48]]))[0]
    anchors = generator.num_base_priors
    rows = [y < 4 for y in range(6) for _ in range(6 * anchors[0])]    # rows begin at 0, 8, 16, 24
    cells = [y == 0 and x == 0 for y in range(2) for x in range(2) for _ in range(anchors[1])]
    assert inside.tolist() == rows + cells
