"""Pascal VOC's format: XML files of our own, with what real ones get wrong."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest

from omnidet.data import build_dataset
from omnidet.errors import DatasetError


def xml(objects, name='a.jpg', size=(64, 48)):
    """objects: (class, xmin, ymin, xmax, ymax[, difficult])."""
    head = f'<filename>{name}</filename>'
    if size:
        head += f'<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>'
    body = ''.join(
        f'<object><name>{k}</name><pose>Left</pose><difficult>{difficult[0] if difficult else 0}</difficult>'
        f'<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>'
        f'<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
        for k, x1, y1, x2, y2, *difficult in objects)
    return f'<annotation>{head}{body}</annotation>'


@pytest.fixture
def devkit(tmp_path):
    """A function that writes a year of the devkit: {name: xml text}; it returns the data set's config."""
    def make(files, year='VOC2007', split='trainval', listed=None, suffix='jpg', **changes):
        root = tmp_path / year
        for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / 'Annotations' / f'{name}.xml').write_text(text)
            cv2.imwrite(str(root / 'JPEGImages' / f'{name}.{suffix}'), np.zeros((48, 64, 3), np.uint8))
        (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(listed or files) + '\n')
        return dict(type='VOCDataset', data_root=str(tmp_path), ann_file=f'{year}/ImageSets/Main/{split}.txt',
                    data_prefix=dict(sub_data_root=f'{year}/'), **changes)
    return make


def test_pixels_are_counted_from_zero_and_difficult_objects_are_ignored(devkit):
    dataset = build_dataset(devkit({'a': xml([('dog', 48, 24, 60, 37), ('person', 1, 2, 64, 48, 1)])}))
    assert dataset.load(0)['instances'] == [dict(bbox=[47, 23, 59, 36], bbox_label=11, ignore_flag=0),
                                            dict(bbox=[0, 1, 63, 47], bbox_label=14, ignore_flag=1)]
    assert dataset.image_ids == ['a'] and dataset.sizes.tolist() == [[64, 48]]
    assert len(dataset.classes) == 20 and dataset.classes[11] == 'dog'


def test_list_decides_which_images_there_are_in_its_order(devkit):
    cfg = devkit({n: xml([('dog', 1, 1, 9, 9)]) for n in 'abc'}, listed=['c  1', 'a -1'])
    assert build_dataset(cfg).image_ids == ['c', 'a']


def test_sample_reaches_the_model_with_its_boxes(devkit):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                dict(type='Resize', scale=(128, 96), keep_ratio=True), dict(type='PackDetInputs')]
    sample = build_dataset(devkit({'a': xml([('cat', 1, 1, 33, 25), ('cow', 1, 1, 9, 9, 1)])}, pipeline=pipeline))[0]
    assert sample.image.shape == (3, 96, 128)
    assert sample.target['boxes'].tolist() == [[0, 0, 64, 48], [0, 0, 16, 16]]
    assert sample.target['ignore'].tolist() == [False, True]


def test_other_classes_are_left_out_and_images_without_any_are_filtered(devkit):
    cfg = devkit({'a': xml([('unicorn', 1, 1, 9, 9), ('dog', 1, 1, 9, 9)]), 'b': xml([('unicorn', 1, 1, 9, 9)]),
                  'c': xml([])}, filter_cfg=dict(filter_empty_gt=True, min_size=32))
    assert build_dataset(cfg).image_ids == ['a'] and len(build_dataset(cfg).load(0)['instances']) == 1
    assert build_dataset(dict(cfg, test_mode=True)).image_ids == ['a', 'b', 'c']


def test_small_objects_are_ignored_in_training_only(devkit):
    cfg = devkit({'a': xml([('dog', 1, 1, 31, 40), ('dog', 1, 1, 33, 40)])}, filter_cfg=dict(bbox_min_size=32))
    assert [i['ignore_flag'] for i in build_dataset(cfg).load(0)['instances']] == [1, 0]
    assert [i['ignore_flag'] for i in build_dataset(dict(cfg, test_mode=True)).load(0)['instances']] == [0, 0]


def test_boxes_without_area_are_counted_once(devkit, caplog):
    cfg = devkit({'a': xml([('dog', 5, 5, 5, 9), ('dog', 5, 5, 9, 9)]), 'b': xml([('dog', 7, 5, 6, 9)])})
    with caplog.at_level(logging.WARNING, 'omnidet'):
        dataset = build_dataset(cfg)
    assert [len(dataset.load(i)['instances']) for i in range(2)] == [1, 0]
    assert len(caplog.records) == 1 and '2 objects' in caplog.text and 'a.xml, object 0' in caplog.text


def test_sizes_and_suffixes_that_the_file_does_not_state_are_found(devkit):
    dataset = build_dataset(devkit({'a': xml([('dog', 1, 1, 9, 9)], name='a.png', size=None)}, suffix='png'))
    assert dataset.sizes.tolist() == [[64, 48]] and dataset.load(0)['img_path'].endswith('JPEGImages/a.png')
    other = build_dataset(devkit({'b': xml([('dog', 1, 1, 9, 9)], name='12345.png')}, year='VOC2012'))
    assert other.load(0)['img_path'].endswith('VOC2012/JPEGImages/b.jpg')    # that name is of another file


def test_years_stand_behind_one_another(devkit):
    first = devkit({'a': xml([('dog', 1, 1, 9, 9)])})
    second = devkit({'2008_1': xml([('cat', 1, 1, 9, 9)]), '2008_2': xml([('cow', 1, 1, 9, 9)])}, year='VOC2012')
    both = build_dataset(dict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=[first, second], ignore_keys=['dataset_type'])))
    assert both.image_ids == ['a', '2008_1', '2008_2'] * 2 and both.get_cat_ids(4) == [7]


def test_data_of_ones_own_takes_its_classes_and_folders(devkit, tmp_path):
    cfg = devkit({'a': xml([('wbc', 1, 1, 9, 9)])})
    (tmp_path / 'VOC2007' / 'JPEGImages').rename(tmp_path / 'VOC2007' / 'pictures')
    own = build_dataset(dict(cfg, type='XMLDataset', metainfo=dict(classes=('rbc', 'wbc')), img_subdir='pictures',
                             pipeline=[dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]))
    assert own.get_cat_ids(0) == [1] and own[0].image.shape == (3, 48, 64)


@pytest.mark.parametrize('text, message', [
    ('<annotation><object>', 'no XML'),
    (xml([('dog', 1, 1, 'wide', 9)]), r"object 0 has no box of four numbers.*'wide'"),
    (xml([('dgo', 1, 1, 9, 9)]), r"no object is of one of the classes; did you mean 'dog'"),
])
def test_damaged_files_are_named(devkit, text, message):
    with pytest.raises(DatasetError, match=message):
        build_dataset(devkit({'a': text}))


def test_missing_files_are_named(devkit):
    cfg = devkit({'a': xml([('dog', 1, 1, 9, 9)])}, listed=['a', 'b'])
    with pytest.raises(DatasetError, match=r'b\.xml: No such file.*trainval\.txt lists it'):
        build_dataset(cfg)
    with pytest.raises(DatasetError, match=r'nowhere\.txt.*a list of image names'):
        build_dataset(dict(cfg, ann_file='nowhere.txt'))


def test_cityscapes_leaves_out_images_of_groups_alone(make_coco):
    group = dict(bbox=[1, 1, 9, 9], category_id=10, iscrowd=1)
    cfg = dict(make_coco([[group], [group, (1, 1, 5, 5, 20)], []], names=('person', 'rider')),
               type='CityscapesDataset', filter_cfg=dict(filter_empty_gt=True))
    assert build_dataset(cfg).image_ids == [1]
    assert build_dataset(dict(cfg, test_mode=True)).image_ids == [0, 1, 2]
    assert build_dataset(dict(cfg, type='CocoDataset')).image_ids == [0, 1]    # COCO keeps an image of a crowd


def test_deepfashion_has_fifteen_classes(make_coco):
    cfg = make_coco([[(1, 1, 9, 9, 10)]], names=('skirt', 'face'))
    del cfg['metainfo']
    dataset = build_dataset(dict(cfg, type='DeepFashionDataset'))
    assert len(dataset.classes) == 15 and dataset.classes[dataset.get_cat_ids(0)[0]] == 'skirt'
