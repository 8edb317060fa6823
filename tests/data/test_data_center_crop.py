"""Cutting around a random middle: what is cut, what is kept, and the padding for tests."""

from __future__ import annotations

import numpy as np
import pytest

from omnidet.data.transforms.base import seeded
from omnidet.data.transforms.center_crop import RandomCenterCropPad, inner_border, place
from omnidet.data.transforms.formatting import PackDetInputs
from omnidet.errors import ConfigError, DatasetError

BLACK = dict(mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True)


def sample(h, w, boxes):
    """An image whose pixels say where they are (1 is added, so that padding with 0 is told apart)."""
    image = np.stack([*np.mgrid[1:h + 1, 1:w + 1], np.full((h, w), 200)], -1).astype(np.uint8)
    return {'img': image, 'gt_bboxes': np.array(boxes, np.float32).reshape(-1, 4),
            'gt_bboxes_labels': np.arange(len(boxes)), 'gt_ignore_flags': np.arange(len(boxes)) % 2 == 1}


@pytest.mark.parametrize('border, size', [(128, 640), (128, 300), (128, 256), (128, 200), (128, 40), (128, 1), (0, 9)])
def test_the_border_is_halved_until_something_lies_between(border, size):
    want = border
    while 2 * want >= size and want:
        want //= 2
    assert inner_border(border, size) == want


@pytest.mark.parametrize('seed', range(20))
def test_pixels_and_boxes_move_together(seed):
    boxes = [[10, 5, 30, 25], [0, 0, 8, 8], [60, 30, 79, 49]]
    with seeded(seed):
        out = RandomCenterCropPad(crop_size=(40, 24), ratios=(0.6, 1.0, 2.0), border=16, **BLACK)(sample(50, 80, boxes))
    h, w = out['img_shape']
    assert out['img'].shape == (h, w, 3) and (w, h) in [(24, 14), (40, 24), (80, 48)]
    real = out['img'][..., 2] == 200
    ys, xs = np.nonzero(real)
    dy, dx = (out['img'][real][:, :2].astype(int) - 1 - np.stack([ys, xs], 1)).T    # from the part to the image
    assert len(set(dy)) == len(set(dx)) == 1
    assert not out['img'][~real].any()
    dy, dx, kept = dy[0], dx[0], []
    y1, y2, x1, x2 = ys.min() + dy, ys.max() + 1 + dy, xs.min() + dx, xs.max() + 1 + dx
    for label, (a, b, c, d) in enumerate(boxes):
        if x1 < (a + c) / 2 < x2 and y1 < (b + d) / 2 < y2:
            kept.append(label)
            want = [max(a - dx, 0), max(b - dy, 0), min(c - dx, w), min(d - dy, h)]
            assert out['gt_bboxes'][len(kept) - 1].tolist() == want
    assert kept and out['gt_bboxes_labels'].tolist() == kept
    assert out['gt_ignore_flags'].tolist() == [k % 2 == 1 for k in kept]


def test_the_middle_keeps_away_from_the_border():
    """A part of one pixel is its own middle; the border of 16 is halved once for a side of 24."""
    seen = set()
    for seed in range(300):
        with seeded(seed):
            out = RandomCenterCropPad(crop_size=(2, 2), ratios=(1.0,), border=16, **BLACK)(sample(24, 64, []))
        seen.add(tuple(out['img'][1, 1, :2] - 1))
    assert {y for y, _ in seen} == set(range(8, 16))
    assert {x for _, x in seen} == set(range(16, 48))


def test_an_image_whose_boxes_cannot_be_kept_is_dropped():
    transform = RandomCenterCropPad(crop_size=(4, 4), ratios=(1.0,), border=8, **BLACK)
    assert transform(sample(40, 40, [[0, 0, 1, 1]])) is None


@pytest.mark.parametrize('mode, add, size, want', [
    (('logical_or', 31), 1, (33, 64), (64, 96)), (('logical_or', 127), 0, (100, 200), (127, 255)),
    (('size_divisor', 32), 0, (33, 64), (64, 64))])
def test_for_testing_the_picture_lies_in_the_middle_of_a_larger_image(mode, add, size, want):
    transform = RandomCenterCropPad(ratios=None, border=None, test_mode=True, test_pad_mode=mode, test_pad_add_pix=add,
                                    **{**BLACK, 'mean': [7, 8, 9]})
    image = np.full((*size, 3), 50, np.float32)
    out = transform({'img': image, 'ori_shape': size, 'gt_bboxes': np.array([[1, 2, 5, 6]], np.float32)})
    (h, w), (x, y) = want, out['offset']
    assert out['img'].shape == (h, w, 3) and out['img_shape'] == want and out['img'].dtype == np.float32
    assert (x, y) == (w // 2 - size[1] // 2, h // 2 - size[0] // 2)
    assert out['border'].tolist() == [y, y + size[0], x, x + size[1]]
    inside = np.zeros((h, w), bool)
    inside[y:y + size[0], x:x + size[1]] = True
    assert (out['img'][inside] == 50).all()
    assert (out['img'][~inside] == [9, 8, 7]).all()    # the mean is in RGB, the image in BGR
    assert out['gt_bboxes'].tolist() == [[1 + x, 2 + y, 5 + x, 6 + y]]
    meta = PackDetInputs()(out).meta
    assert meta.offset == (x, y) and meta.img_shape == want and meta.ori_shape == size


def test_a_window_over_an_edge_is_filled_with_colour():
    image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4, 1)
    out, part, where = place(image, (0, 2), (4, 4), np.array([99.0]))
    assert out[..., 0].tolist() == [[99, 99, 1, 2], [99, 99, 5, 6], [99, 99, 9, 10], [99] * 4]
    assert (part, where) == ((0, 0, 2, 3), (2, 0, 4, 3))


@pytest.mark.parametrize('options', [
    dict(crop_size=None), dict(crop_size=(0, 4)), dict(crop_size=(4, 4), mean=None),
    dict(crop_size=(4, 4), test_mode=True), dict(ratios=None, border=None, test_mode=True, test_pad_mode=('no', 3))])
def test_arguments_that_do_not_fit_are_refused(options):
    with pytest.raises(ConfigError, match='RandomCenterCropPad'):
        RandomCenterCropPad(**{**BLACK, **options})


def test_masks_are_refused_for_training():
    with pytest.raises(DatasetError, match='no masks'):
        RandomCenterCropPad(crop_size=(4, 4), **BLACK)({**sample(9, 9, []), 'gt_seg_map': np.zeros((9, 9), np.uint8)})
