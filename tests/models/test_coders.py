"""Box coders: each undoes itself, and each does what its paper's equations say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from omnidet.models.parts.coders.bucketing import BucketingBBoxCoder
from omnidet.models.parts.coders.delta_xywh import DeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoder
from omnidet.models.parts.coders.pseudo import PseudoBBoxCoder
from omnidet.models.parts.coders.tblr import TBLRBBoxCoder
from omnidet.structures import Priors

EMPTY = torch.zeros(0)


def priors(*boxes):
    return Priors(tensor(boxes, dtype=torch.float32), EMPTY, ())


def random_boxes(*shape, generator):
    corner = torch.rand(*shape, 2, generator=generator) * 200
    return torch.cat([corner, corner + 5 + torch.rand(*shape, 2, generator=generator) * 100], -1)


@pytest.mark.parametrize('coder', [
    DeltaXYWHBBoxCoder(), DeltaXYWHBBoxCoder((0.1, 0, 0.2, 0), (0.1, 0.1, 0.2, 0.2)), TBLRBBoxCoder(),
    TBLRBBoxCoder((1.0, 2.0, 3.0, 4.0)), PseudoBBoxCoder()])
@pytest.mark.parametrize('per_image', [False, True])
def test_decoding_undoes_encoding(coder, per_image):
    g = torch.Generator().manual_seed(0)
    anchors = Priors(random_boxes(*((3, 50) if per_image else (50,)), generator=g), EMPTY, ())
    boxes = random_boxes(3, 50, generator=g)
    torch.testing.assert_close(coder.decode(anchors, coder.encode(anchors, boxes)), boxes, rtol=1e-5, atol=1e-3)


def test_deltas_are_shifts_in_sides_and_logarithms_of_ratios():
    anchor, box = priors([10, 20, 30, 60]), tensor([[15., 20., 55., 40.]])    # centres (20, 40) and (35, 30)
    log2 = math.log(2)
    assert DeltaXYWHBBoxCoder().encode(anchor, box)[0].tolist() == pytest.approx([15 / 20, -10 / 40, log2, -log2])
    coder = DeltaXYWHBBoxCoder((0.0, 0.0, 0.0, 0.1), (0.1, 0.1, 0.2, 0.2))
    assert coder.encode(anchor, box)[0].tolist() == pytest.approx([7.5, -2.5, log2 / 0.2, (-log2 - 0.1) / 0.2])


def test_a_decoded_side_grows_by_a_bounded_factor():
    anchor = priors([0, 0, 16, 16])
    box = DeltaXYWHBBoxCoder().decode(anchor, tensor([[0., 0., 100., -100.]]))[0]
    assert (box[2] - box[0]).item() == pytest.approx(16 * 1000 / 16)
    assert (box[3] - box[1]).item() == pytest.approx(16 * 16 / 1000)
    box = DeltaXYWHBBoxCoder(wh_ratio_clip=0.5).decode(anchor, tensor([[0., 0., 100., 0.]]))[0]
    assert (box[2] - box[0]).item() == pytest.approx(32)


def test_a_clamped_centre_moves_by_so_many_pixels():
    anchor, coder = priors([0, 0, 100, 100]), DeltaXYWHBBoxCoder(add_ctr_clamp=True, ctr_clamp=32)
    box = coder.decode(anchor, tensor([[5., -0.1, 0., -100.]]))[0]
    assert box.tolist() == pytest.approx([32, 40, 132, 40], abs=1e-3)    # and the scale has no lower bound


@pytest.mark.parametrize(('coder', 'edge'), [(DeltaXYWHBBoxCoder(), 0), (LegacyDeltaXYWHBBoxCoder(), 1)])
def test_boxes_are_clipped_to_each_images_size(coder, edge):
    anchor = priors([-8, -8, 24, 40], [0, 0, 8, 8])
    shape = tensor([[[16, 20]], [[30, 10]]])
    boxes = coder.decode(anchor, torch.zeros(2, 2, 4), shape)
    assert boxes[0, 0].tolist() == [0, 0, 20 - edge, 16 - edge] and boxes[1, 0].tolist() == [0, 0, 10 - edge, 30 - edge]
    assert boxes[:, 1].tolist() == [[0, 0, 8 + edge / 2, 8 + edge / 2]] * 2


def test_clipping_can_be_left_out():
    anchor, shape = priors([-8, -8, 24, 40]), tensor([16, 20])
    assert DeltaXYWHBBoxCoder(clip_border=False).decode(anchor, torch.zeros(1, 4), shape).tolist() == [[-8, -8, 24, 40]]


def test_legacy_sides_count_both_ends():
    anchor, box = priors([0, 0, 9, 9]), tensor([[0., 0., 19., 4.]])    # 10 px, and 20 by 5 px
    deltas = LegacyDeltaXYWHBBoxCoder().encode(anchor, box)[0]
    assert deltas.tolist() == pytest.approx([0.5, -0.25, math.log(2), -math.log(2)])


def test_legacy_boxes_come_out_half_a_pixel_larger_on_each_side():
    """As MMDetection 2 and 3 decode for models of 1.x; its record of such a Faster R-CNN agrees with this alone."""
    anchor, box = priors([0, 0, 9, 9]), tensor([[3., 4., 19., 14.]])
    for coder in (LegacyDeltaXYWHBBoxCoder(), LegacyDeltaXYWHBBoxCoder((0, 0.3, 0, 0), (0.1, 0.1, 0.2, 0.2))):
        got = coder.decode(anchor, coder.encode(anchor, box))[0]
        assert got.tolist() == pytest.approx([2.5, 3.5, 19.5, 14.5], abs=1e-5)


def test_boxes_without_extent_give_finite_deltas():
    for coder in (DeltaXYWHBBoxCoder(), TBLRBBoxCoder()):
        assert coder.encode(priors([3, 3, 3, 3]), tensor([[5., 5., 5., 5.]])).isfinite().all()


def test_tblr_are_distances_in_prior_sides_over_the_normaliser():
    anchor, box = priors([10, 20, 30, 60]), tensor([[15., 20., 55., 50.]])    # centre (20, 40), 20 by 40
    want = [20 / 40 / 4, 10 / 40 / 4, 5 / 20 / 4, 35 / 20 / 4]
    assert TBLRBBoxCoder().encode(anchor, box)[0].tolist() == pytest.approx(want)
    assert TBLRBBoxCoder().decode(anchor, tensor([want]), tensor([48, 50]))[0].tolist() == [15, 20, 50, 48]


def test_one_priors_box_broadcasts_over_classes():
    anchors = Priors(tensor([[[0., 0., 10., 10.]], [[5., 5., 25., 25.]]]), EMPTY, ())    # (2, 1, 4)
    deltas = torch.zeros(2, 3, 4)
    deltas[0, 2, 0] = 1
    boxes = DeltaXYWHBBoxCoder().decode(anchors, deltas)
    assert boxes.shape == (2, 3, 4)
    assert boxes[0, 2].tolist() == [10, 0, 20, 10] and boxes[1, 1].tolist() == [5, 5, 25, 25]


class TestBucketing:
    """A prior of 0..60 in six buckets of 10 px; three belong to each side."""

    anchor = priors([0, 0, 60, 60])
    box = tensor([[12., 4., 47., 58.]])
    coder = BucketingBBoxCoder(num_buckets=6, scale_factor=1.0)

    def test_the_nearest_bucket_is_the_label(self):
        target = self.coder.encode(self.anchor, self.box)
        # left 12: buckets at 5, 15, 25; right 47: at 55, 45, 35; top 4: as left; bottom 58: as right
        assert target.labels.reshape(4, 3).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
        assert target.offsets.reshape(4, 3)[0].tolist() == pytest.approx([-0.7, 0.3, 1.3])
        assert target.offsets.reshape(4, 3)[1].tolist() == pytest.approx([0.8, -0.2, -1.2])

    def test_the_next_bucket_regresses_where_it_is_near_and_is_no_negative(self):
        target = self.coder.encode(self.anchor, self.box)
        assert target.offset_weights.reshape(4, 3).tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
        assert target.label_weights.reshape(4, 3).tolist() == [[0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]]
        alone = BucketingBBoxCoder(6, 1.0, offset_topk=1, cls_ignore_neighbor=False).encode(self.anchor, self.box)
        assert torch.equal(alone.offset_weights, alone.labels) and alone.label_weights.min() == 1

    def test_decoding_undoes_encoding(self):
        target = self.coder.encode(self.anchor, self.box)
        boxes, sure = self.coder.decode(self.anchor, (target.labels * 50, target.offsets))
        torch.testing.assert_close(boxes, self.box)
        assert sure.tolist() == pytest.approx([1.0])

    def test_a_scaled_prior_reaches_further(self):
        coder = BucketingBBoxCoder(num_buckets=6, scale_factor=2.0)    # -30..90, 20 px each
        target = coder.encode(self.anchor, tensor([[-15., 0., 60., 60.]]))
        assert target.offsets.reshape(4, 3)[0].tolist() == pytest.approx([-5 / 20, 15 / 20, 35 / 20])

    def test_a_neighbours_score_adds_to_the_confidence(self):
        logits = torch.full((1, 12), -50.0)
        logits[0, [0, 1, 3, 5, 6, 9]] = 0.0    # left: 1st and 2nd; right: 1st and 3rd; top and bottom: 1st
        _, sure = self.coder.decode(self.anchor, (logits, torch.zeros(1, 12)))
        assert sure.item() == pytest.approx((1 + 0.5 + 1 + 1) / 4)
