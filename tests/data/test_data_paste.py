"""Objects pasted from another image, and moved within their own."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from omnidet.data import build_dataset
from omnidet.data.masks import PolygonMasks
from omnidet.data.transforms import build_transform, seeded
from omnidet.errors import ConfigError


def paste(painted, kind='bitmap', boxes=((0, 0, 20, 60), (40, 10, 60, 30)), by_box=False, size=(60, 80), **args):
    """A picture with the objects (8, 12, 40, 32) and (48, 20, 72, 52), and objects `boxes` pasted into it."""
    into, source = painted(kind), painted(kind, size=size, boxes=boxes, colours=(5, 6, 7))
    source['gt_bboxes_labels'] = np.arange(len(boxes)) + 7
    for picture, value in ((into, 1), (source, 2)):
        picture['gt_seg_map'] = np.full(picture['img'].shape[:2], value, np.uint8)
        if by_box:
            del picture['gt_masks']
    into['mix_results'] = [source]
    return build_transform(dict(type='CopyPaste', selected=False, paste_by_box=by_box, **args))(into)


@pytest.mark.parametrize('kind', ['bitmap', 'polygon', 'box'])
def test_what_is_pasted_hides_what_is_behind_it(painted, kind):
    out = paste(painted, 'bitmap' if kind == 'box' else kind, by_box=kind == 'box')
    # the first object loses its columns from 8 to 19, the second its rows from 20 to 29 where it is behind
    assert out['gt_bboxes'].tolist() == [[20, 12, 40, 32], [48, 20, 72, 52], [0, 0, 20, 60], [40, 10, 60, 30]]
    assert out['gt_bboxes_labels'].tolist() == [0, 1, 7, 8] and out['gt_ignore_flags'].tolist() == [False] * 4
    assert out['img'][30, 10].tolist() == [5] * 3 and out['img'][20, 45].tolist() == [6] * 3
    assert out['img'][20, 30].tolist() == [100] * 3 and out['img'][55, 75].tolist() == [20] * 3
    assert out['gt_seg_map'].sum() == 60 * 80 + 20 * 60 + 20 * 20
    if kind != 'box':
        assert out['gt_masks'].areas.tolist() == [20 * 20, 24 * 32 - 12 * 10, 1200, 400]
        for mask, value in zip(out['gt_masks'].to_ndarray().astype(bool), (100, 180, 5, 6), strict=True):
            assert (out['img'][mask] == value).all()


def test_an_object_of_which_too_little_is_left_goes(painted):
    assert paste(painted, mask_occluded_thr=399)['gt_bboxes_labels'].tolist() == [0, 1, 7, 8]
    assert paste(painted, mask_occluded_thr=400)['gt_bboxes_labels'].tolist() == [1, 7, 8]    # 12 px of its box gone
    assert paste(painted, mask_occluded_thr=400, bbox_occluded_thr=12)['gt_bboxes_labels'].tolist() == [0, 1, 7, 8]
    whole = paste(painted, boxes=((0, 0, 80, 60),), bbox_occluded_thr=99)
    assert whole['gt_bboxes_labels'].tolist() == [7]    # of the others nothing is left


def test_a_larger_image_is_cut_and_what_is_beyond_is_not_pasted(painted):
    out = paste(painted, boxes=((70, 50, 100, 90), (85, 5, 95, 9)), size=(100, 120))
    assert out['gt_bboxes_labels'].tolist() == [0, 1, 7] and out['gt_bboxes'][-1].tolist() == [70, 50, 80, 60]
    assert out['img'].shape == (60, 80, 3) and out['img'][55, 75].tolist() == [5] * 3


def test_nothing_is_pasted_from_an_image_without_objects(painted):
    into = painted()
    into['mix_results'] = [painted(boxes=())]
    out = build_transform(dict(type='CopyPaste'))(copy.copy(into))
    assert (out['img'] == painted()['img']).all() and len(out['gt_bboxes']) == 2


def test_copy_paste_says_what_it_lacks(painted):
    with pytest.raises(ConfigError, match='MultiImageMixDataset'):
        build_transform(dict(type='CopyPaste'))(painted())


def mixing(make_coco, **args):
    inner = dict(make_coco([[(5, 5, 20, 20, 10)], [(30, 10, 30, 30, 20)], [(2, 2, 60, 44, 10)]]), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')])
    pipeline = [dict(type='CopyPaste', paste_by_box=True), dict(type='RandomFlip', prob=0.5),
                dict(type='PackDetInputs')]
    return build_dataset(dict(type='MultiImageMixDataset', dataset=inner, pipeline=pipeline, **args))


def test_mixed_samples_are_a_function_of_their_key(make_coco):
    a, b = mixing(make_coco), mixing(make_coco)
    keys = [(e, i) for e in range(4) for i in range(3)]
    first = {key: a[key] for key in keys}
    for key in reversed(keys):
        assert (first[key].image == b[key].image).all()
        assert first[key].target['boxes'].tolist() == b[key].target['boxes'].tolist()
    assert len({first[key].image.numpy().tobytes() for key in keys}) > 6
    assert any(len(s.target['boxes']) > 1 for s in first.values())
    assert len(a) == 3 and a.classes == ('cat', 'dog') and a.get_cat_ids(1) == [1]


def test_a_skipped_type_is_left_out(make_coco):
    dataset = mixing(make_coco, skip_type_keys=['CopyPaste'])
    assert all(len(dataset[e, 0].target['boxes']) == 1 for e in range(8))


def test_an_inner_pipeline_that_packs_is_an_error(make_coco):
    dataset = mixing(make_coco)
    dataset.datasets[0].set_pipeline([dict(type='LoadImageFromFile'), dict(type='PackDetInputs')])
    with pytest.raises(ConfigError, match='PackDetInputs comes last'):
        dataset[0]


def moved(seed=0, **args):
    """A white square from (30, 20) to (50, 40) on grey, moved."""
    image = np.full((60, 80, 3), 90, np.uint8)
    image[20:40, 30:50] = 255
    square = [30.0, 20, 50, 20, 50, 40, 30, 40]
    results = dict(img=image, img_shape=(60, 80), instances=[
        dict(bbox=[30, 20, 50, 40], bbox_label=1, ignore_flag=0, mask=[square]),
        dict(bbox=[0, 0, 9, 9], bbox_label=0, ignore_flag=1, mask=dict(size=[60, 80], counts=[4800]))])
    with seeded(seed):
        return image, build_transform(dict(type='InstaBoost', aug_ratio=1.0, color_prob=0, **args))(results)


@pytest.mark.parametrize('seed', range(4))
def test_a_moved_object_lies_where_its_polygon_says_and_leaves_no_trace(seed):
    before, out = moved(seed, dx=2, dy=2, theta=(-20, 20))
    first, crowd = out['instances']
    mask = PolygonMasks([first['mask']], 60, 80)
    inside = mask.to_ndarray()[0].astype(bool)
    assert (before[20:40, 30:50] == 255).all() and inside.sum() > 200    # the picture that was given is left alone
    assert ((out['img'][..., 0] > 170) != inside).sum() < 0.12 * inside.sum()
    assert (out['img'][..., 0] < 110).sum() > 4800 - 1.5 * inside.sum()
    assert first['bbox'] == pytest.approx(mask.get_bboxes()[0].tolist()) and first['bbox'] != [30, 20, 50, 40]
    assert crowd['bbox'] == [0, 0, 9, 9]


def test_instaboost_leaves_alone_what_it_should():
    for args in (dict(action_prob=(0, 0, 1)), dict(scale=(1, 1), theta=(0, 0), dx=1e9, dy=1e9)):
        before, out = moved(**args)
        assert np.abs(out['img'].astype(int) - before)[22:38, 32:48].max() == 0
        assert out['instances'][0]['bbox'] == pytest.approx([30, 20, 50, 40])
    with pytest.raises(ConfigError, match='hflag'):
        build_transform(dict(type='InstaBoost', hflag=True))
