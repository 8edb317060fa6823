"""COCO's panoptic format, from files to targets."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
import torch

from omnidet.data import build_dataset, collate
from omnidet.errors import DatasetError
from omnidet.panoptic import ids_to_colors

CLASSES = ('cat', 'dog', 'sky')
CATEGORIES = [{'id': 7, 'name': 'cat', 'isthing': 1}, {'id': 200, 'name': 'sky', 'isthing': 0},
              {'id': 3, 'name': 'dog', 'isthing': 1}]
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations')]


def ids():
    """40 x 60: a sky above, two cats on it, a crowd of dogs at the foot, and no segment elsewhere."""
    out = np.zeros((40, 60), int)
    out[:20] = 100000
    out[5:15, 10:30], out[10:30, 40:50] = 1, 77777
    out[32:40, :25] = 5
    return out


def build(tmp_path, *transforms, segments=None, **options):
    (tmp_path / 'images').mkdir(exist_ok=True)
    (tmp_path / 'maps').mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / 'images' / 'a.jpg'), np.full((40, 60, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / 'maps' / 'a.png'), ids_to_colors(ids()))
    rows = [{'id': 100000, 'category_id': 200, 'iscrowd': 0, 'bbox': [0, 0, 60, 20], 'area': 900},
            {'id': 1, 'category_id': 7, 'iscrowd': 0, 'bbox': [10, 5, 20, 10], 'area': 200},
            {'id': 5, 'category_id': 3, 'iscrowd': 1, 'bbox': [0, 32, 25, 8], 'area': 200},
            {'id': 77777, 'category_id': 7, 'iscrowd': 0, 'bbox': [40, 10, 10, 20], 'area': 200}]
    annotation = {'image_id': 4, 'file_name': 'a.png', 'segments_info': rows if segments is None else segments}
    (tmp_path / 'p.json').write_text(json.dumps({
        'images': [{'id': 4, 'file_name': 'a.jpg', 'width': 60, 'height': 40}], 'categories': CATEGORIES,
        'annotations': [annotation]}))
    return build_dataset(dict(
        type='CocoPanopticDataset', ann_file='p.json', data_root=str(tmp_path), metainfo=dict(classes=CLASSES),
        data_prefix=dict(img='images', seg='maps'),
        pipeline=[*LOAD, *transforms, dict(type='PackDetInputs')], **options))


def test_things_become_instances_and_everything_a_semantic_map(tmp_path):
    data = build(tmp_path)
    target = data[0].target
    assert data.cat_ids == [7, 3, 200] and data.get_cat_ids(0) == [0, 0]
    assert target['boxes'].tolist() == [[10, 5, 30, 15], [40, 10, 50, 30]] and target['labels'].tolist() == [0, 0]
    np.testing.assert_array_equal(target['masks'].dense().numpy(), np.stack([ids() == 1, ids() == 77777]))
    want = np.select([ids() == 100000, np.isin(ids(), (1, 77777)), ids() == 5], [2, 0, 1], 255)
    np.testing.assert_array_equal(target['sem_seg'].numpy(), want)
    assert [(s['id'], s['category'], s['is_thing']) for s in data.load(0)['segments_info']] == [
        (100000, 2, False), (1, 0, True), (5, 1, False), (77777, 0, True)]


def test_a_copy_in_another_process_knows_the_same(tmp_path):
    data = build(tmp_path)
    assert pickle.loads(pickle.dumps(data)).load(0) == data.load(0)


@pytest.mark.parametrize('transform', [
    dict(type='Resize', scale=(120, 80), keep_ratio=True),
    dict(type='RandomFlip', prob=1.0),
    dict(type='RandomFlip', prob=1.0, direction='vertical'),
    dict(type='Pad', size=(64, 64), pad_val=dict(img=0, seg=255)),
    dict(type='RandomCrop', crop_size=(30, 50), recompute_bbox=True, allow_negative_crop=True),
    dict(type='RandomResize', scale=(60, 40), ratio_range=(0.5, 2.0), keep_ratio=True)], ids=lambda t: t['type'])
def test_map_masks_and_boxes_stay_together(tmp_path, transform):
    target = build(tmp_path, transform)[0].target
    masks, sem_seg = target['masks'].dense(), target['sem_seg']
    assert masks.shape[1:] == sem_seg.shape
    assert torch.equal(masks.any(0), sem_seg == 0)
    for mask, box in zip(masks, target['boxes'], strict=True):
        y, x = mask.nonzero(as_tuple=True)
        around = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert (around - box).abs().max() <= 1


def test_padding_of_a_batch_belongs_to_no_segment(tmp_path):
    data = build(tmp_path)
    small, large = data[0], build(tmp_path, dict(type='Resize', scale=(120, 80)))[0]
    targets = collate([small, large]).targets
    assert (targets.sem_seg[0, 40:] == 255).all() and (targets.sem_seg[0, :, 60:] == 255).all()
    assert targets.masks.shape == (2, 2, 80, 120)


def test_maps_that_are_loaded_after_resizing_have_the_image_s_size(tmp_path):
    data = build(tmp_path)
    data.set_pipeline([LOAD[0], dict(type='Resize', scale=(120, 80)), LOAD[1], dict(type='PackDetInputs')])
    target = data[0].target
    np.testing.assert_array_equal(target['masks'].dense()[0].numpy(), np.kron(ids() == 1, np.ones((2, 2), bool)))


def test_an_image_of_stuff_and_crowds_alone_has_targets_but_may_be_left_out(tmp_path):
    stuff = [{'id': 100000, 'category_id': 200, 'iscrowd': 0, 'bbox': [0, 0, 60, 20], 'area': 900}]
    target = build(tmp_path, segments=stuff)[0].target
    assert len(target['boxes']) == len(target['masks']) == 0 and set(target['sem_seg'].unique().tolist()) == {2, 255}
    with pytest.raises(DatasetError, match='no image is left'):
        build(tmp_path, segments=stuff, filter_cfg=dict(filter_empty_gt=True))


def test_other_formats_are_refused_by_name(tmp_path):
    build(tmp_path)
    data = json.loads((tmp_path / 'p.json').read_text())
    del data['annotations'][0]['segments_info']
    (tmp_path / 'p.json').write_text(json.dumps(data))
    options = dict(type='CocoPanopticDataset', ann_file='p.json', data_root=str(tmp_path),
                   metainfo=dict(classes=CLASSES))
    with pytest.raises(DatasetError, match=r'annotations\[0\].*segments_info.*CocoDataset'):
        build_dataset(options)
    data['annotations'][0]['segments_info'] = [{'category_id': 7}]
    (tmp_path / 'p.json').write_text(json.dumps(data))
    with pytest.raises(DatasetError, match='without an id'):
        build_dataset(options)


def test_a_missing_folder_of_maps_is_said(tmp_path):
    data = build(tmp_path)
    data.seg_folder = None
    with pytest.raises(DatasetError, match='data_prefix'):
        data[0]
