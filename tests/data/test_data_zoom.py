"""SSD's transforms, and holes: boxes, masks and maps stay on what is painted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnidet.data.transforms import build_transform, seeded


def apply(cfg, results, seed=0):
    results['gt_seg_map'] = (results['img'][..., 0] > 50).astype(np.uint8)
    with seeded(seed):
        return build_transform(cfg)(results)


def check(out):
    """Every box and mask is where its colour is; True in the map where any colour is."""
    h, w = out['img'].shape[:2]
    assert out['img_shape'] == (h, w) and out['gt_seg_map'].shape == (h, w)
    masks = out['gt_masks'].to_ndarray().astype(bool)
    assert masks.shape == (len(out['gt_bboxes']), h, w)
    for mask, (x1, y1, x2, y2), label in zip(masks, out['gt_bboxes'].astype(int), out['gt_bboxes_labels'], strict=True):
        colour = out['img'][..., 0] == (100, 180, 220, 250)[label]
        expected = np.zeros((h, w), bool)
        expected[y1:y2, x1:x2] = True
        assert (mask == colour).all() and (expected == colour).all()
    assert len(out['gt_ignore_flags']) == len(masks)


@pytest.mark.parametrize('kind', ['bitmap', 'polygon'])
@pytest.mark.parametrize('seed', range(4))
def test_expanding_moves_everything_onto_a_larger_canvas(painted, kind, seed):
    out = apply(dict(type='Expand', mean=(1, 2, 3), to_rgb=True, prob=1, ratio_range=(1.5, 3)), painted(kind), seed)
    check(out)
    h, w = out['img_shape']
    assert 90 <= h <= 180 and 120 <= w <= 240 and h / 60 == pytest.approx(w / 80, rel=0.03)
    outside = out['gt_seg_map'] == 255
    assert outside.sum() == h * w - 60 * 80 and (out['img'][outside] == (3, 2, 1)).all()    # BGR


def test_expanding_has_its_probability(painted):
    assert apply(dict(type='Expand', prob=0), painted())['img_shape'] == (60, 80)
    bare = painted(boxes=())
    del bare['gt_masks'], bare['gt_bboxes']
    assert apply(dict(type='Expand', prob=1, seg_ignore_label=9, ratio_range=(2, 2)), bare)['gt_seg_map'].max() == 9


@pytest.mark.parametrize('kind', ['bitmap', 'polygon'])
def test_a_crop_overlaps_its_objects_and_keeps_those_whose_centre_it_holds(painted, kind):
    shapes, counts = set(), set()
    for seed in range(25):
        out = apply(dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3), min_crop_size=0.3), painted(kind), seed)
        check(out)
        h, w = out['img_shape']
        assert 18 <= h <= 60 and 24 <= w <= 80 and 1 <= len(out['gt_bboxes']) <= 2
        shapes.add((h, w))
        counts.add(len(out['gt_bboxes']))
    assert len(shapes) > 5 and (60, 80) in shapes and counts == {1, 2}


def test_a_crop_holds_the_iou_that_was_drawn(painted):
    for seed in range(10):
        out = apply(dict(type='MinIoURandomCrop', min_ious=(0.7,)), painted(boxes=((5, 5, 75, 55),)), seed)
        transform = build_transform(dict(type='MinIoURandomCrop', min_ious=(0.7,)))
        with seeded(seed):
            drawn = transform.choices[np.random.randint(3)]
        h, w = out['img_shape']
        inside = np.diff(out['gt_bboxes'][0].reshape(2, 2), axis=0).prod()
        assert drawn == 0 or inside / (70 * 50 + h * w - inside) >= drawn - 1e-6 or drawn == 1


def test_cropping_an_image_without_objects_gives_a_part(painted):
    shapes = [apply(dict(type='MinIoURandomCrop'), painted(boxes=()), seed)['img_shape'] for seed in range(10)]
    assert len(set(shapes)) > 3


def test_photometric_distortion_is_what_its_draws_say():
    image = np.random.default_rng(0).integers(40, 200, (6, 7, 3)).astype(np.uint8)
    kinds = set()
    for seed in range(60):
        cfg = dict(type='PhotoMetricDistortion')
        with seeded(seed):
            out = build_transform(cfg)(dict(img=image))['img']
        with seeded(seed):
            first, brightness, contrast, saturation, hue, swap = np.random.randint(2, size=6)
            delta = np.random.uniform(-32, 32) if brightness else 0
            factor = np.random.uniform(0.5, 1.5) if contrast else 1
            if saturation or hue:
                continue
            order = np.random.permutation(3) if swap else [0, 1, 2]
        expected = ((image.astype(float) + delta) * factor)[..., order]
        assert out.dtype == np.float32 and np.abs(out - expected).max() < 0.01
        kinds.add((first, brightness, contrast, swap))
    assert len(kinds) > 6


def test_hue_goes_round_the_circle_and_saturation_ends_at_one():
    red = np.full((1, 1, 3), (0, 0, 200), np.uint8)
    for seed in range(40):
        with seeded(seed):
            out = build_transform(dict(type='PhotoMetricDistortion', brightness_delta=0, contrast_range=(1, 1),
                                       saturation_range=(1.5, 1.5), hue_delta=18))(dict(img=red))['img']
        hue, saturation, value = cv2.cvtColor(np.sort(out)[..., :].astype(np.float32), cv2.COLOR_BGR2HSV)[0, 0]
        assert value == pytest.approx(200, abs=0.01) and saturation == pytest.approx(1, abs=1e-4) and hue <= 18.01


def test_holes_hide_the_picture_and_leave_the_annotations(painted):
    out = apply(dict(type='CutOut', n_holes=(2, 4), cutout_shape=[(10, 12), (5, 5)], fill_in=(7, 8, 9)), painted())
    hidden = (out['img'] == (7, 8, 9)).all(axis=2)
    assert 20 < hidden.sum() <= 4 * 120 and len(out['gt_bboxes']) == 2 and out['gt_masks'].areas.tolist() == [640, 768]
    assert (apply(dict(type='CutOut', n_holes=1, cutout_ratio=(0.25, 0.5), fill_in=(7, 8, 9)), painted(), 1)['img']
            == (7, 8, 9)).all(axis=2).sum() <= 20 * 30


@pytest.mark.parametrize('kind', ['bitmap', 'polygon'])
def test_erasing_takes_masks_and_covered_boxes_along(painted, kind):
    left = set()
    for seed in range(20):
        cfg = dict(type='RandomErasing', n_patches=(1, 2), ratio=(0.2, 0.9), bbox_erased_thr=0.5)
        out = apply(cfg, painted(kind), seed)
        erased = out['gt_seg_map'] == 255
        assert erased.any() and (out['img'][erased] == 128).all()
        for mask, label in zip(out['gt_masks'].to_ndarray().astype(bool), out['gt_bboxes_labels'], strict=True):
            assert not (mask & erased).any() and (mask == (out['img'][..., 0] == (100, 180)[label])).all()
        for box, label in zip(((8, 12, 40, 32), (48, 20, 72, 52)), (0, 1), strict=True):
            share = erased[box[1]:box[3], box[0]:box[2]].mean()
            assert share < 0.5 or label not in out['gt_bboxes_labels']
        left.add(len(out['gt_bboxes']))
    assert left == {0, 1, 2}
