"""Transforms of albumentations around annotations."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from omnidet.data.transforms import build_transform, seeded
from omnidet.errors import ConfigError

PARAMS = dict(type='BboxParams', format='pascal_voc', label_fields=['gt_bboxes_labels', 'gt_ignore_flags'],
              min_visibility=0.0, filter_lost_elements=True)
MISSING = importlib.util.find_spec('albumentations') is None
installed = pytest.mark.skipif(MISSING, reason='albumentations is an extra')


@pytest.mark.skipif(not MISSING, reason='albumentations is there')
def test_without_the_library_the_extra_is_named():
    with pytest.raises(ConfigError, match=r'omnidet\[albu\]'):
        build_transform(dict(type='Albu', transforms=[]))


@installed
@pytest.mark.parametrize('kind', ['bitmap', 'polygon'])
def test_what_is_left_keeps_its_labels_flags_and_masks(painted, kind):
    results = painted(kind)
    results.update(gt_ignore_flags=np.array([False, True]), gt_seg_map=results['img'][..., 0].copy())
    crop = dict(type='Crop', x_min=44, y_min=10, x_max=80, y_max=60, p=1.0)
    out = build_transform(dict(type='Albu', transforms=[crop], bbox_params=PARAMS))(results)
    assert out['img_shape'] == out['img'].shape[:2] == out['gt_seg_map'].shape == (50, 36)
    assert out['gt_bboxes'][0] == pytest.approx([4, 10, 28, 42], abs=1e-4) and out['gt_bboxes'].dtype == np.float32
    assert out['gt_bboxes_labels'].tolist() == [1] and out['gt_ignore_flags'].tolist() == [True]
    assert ((out['img'][..., 0] == 180) == out['gt_masks'].to_ndarray()[0]).all()
    assert (out['gt_seg_map'] == out['img'][..., 0]).all()


@installed
def test_an_image_that_loses_its_objects_is_dropped_if_so_asked(painted):
    crop = dict(type='Crop', x_min=0, y_min=0, x_max=8, y_max=8, p=1.0)
    for skip in (True, False):
        cfg = dict(type='Albu', transforms=[crop], bbox_params=PARAMS, skip_img_without_anno=skip)
        out = build_transform(cfg)(painted())
        assert out is None if skip else (out['gt_bboxes'].shape, len(out['gt_masks'])) == ((0, 4), 0)
        assert skip or len(build_transform(cfg)(painted(boxes=()))['gt_bboxes']) == 0


@installed
def test_boxes_beyond_the_image_and_without_extent_do_not_stop_it(painted):
    results = painted()
    results['gt_bboxes'] = np.array([[-5, 3, 90, 30], [4, 4, 4, 9]], np.float32)
    out = build_transform(dict(type='Albu', transforms=[dict(type='HorizontalFlip', p=1)], bbox_params=PARAMS))(results)
    assert out['gt_bboxes'][0] == pytest.approx([0, 3, 80, 30], abs=1e-4)
    assert out['gt_bboxes_labels'].tolist() == [0]
    assert len(out['gt_masks']) == 1


@installed
def test_random_numbers_follow_the_sample(painted):
    one_of = dict(type='OneOf', p=1.0, transforms=[dict(type='RGBShift', r_shift_limit=50, p=1.0),
                                                   dict(type='JpegCompression', quality_lower=5, quality_upper=9, p=1)])
    transform = build_transform(dict(type='Albu', transforms=[one_of]))

    def look(seed):
        with seeded(seed):
            return transform(painted())['img'].tobytes()
    assert look(1) == look(1) and len({look(s) for s in range(8)}) > 3


@installed
@pytest.mark.parametrize('cfg, message', [
    (dict(transforms=[dict(type='HorizontalFlop')]), "no 'HorizontalFlop'.*HorizontalFlip"),
    (dict(transforms=[dict(p=1)]), 'dict with a type'),
    (dict(transforms=[], bbox_params=dict(format='coco')), 'pascal_voc'),
    (dict(transforms=[], keymap=dict(image='img')), 'keymap')])
def test_mistakes_are_named(cfg, message):
    with pytest.raises(ConfigError, match=message):
        build_transform(dict(type='Albu', **cfg))
