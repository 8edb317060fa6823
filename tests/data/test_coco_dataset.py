import json
import logging

import numpy as np
import pytest
import torch

from omnidet.data import build_dataset
from omnidet.data.store import AnnotationStore
from omnidet.errors import ConfigError, DatasetError

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]


def test_labels_follow_the_order_of_the_class_names(make_coco):
    cfg = make_coco([[(1, 2, 10, 20, 10), (5, 5, 8, 8, 20)], [(0, 0, 4, 4, 20)]])
    assert [build_dataset(cfg).get_cat_ids(0), build_dataset(cfg).cat_ids] == [[0, 1], [10, 20]]
    turned = build_dataset(dict(cfg, metainfo=dict(classes=('dog', 'cat'))))
    assert [turned.get_cat_ids(0), turned.cat_ids, turned.classes] == [[1, 0], [20, 10], ('dog', 'cat')]
    subset = build_dataset(dict(cfg, metainfo=dict(classes='dog')))
    assert [subset.get_cat_ids(0), subset.cat_ids, len(subset.metainfo['palette'])] == [[0], [20], 1]
    assert subset.load(0)['instances'] == [dict(bbox=[5, 5, 13, 13], bbox_label=0, ignore_flag=0)]


def test_a_sample_holds_image_boxes_and_meta(make_coco):
    dataset = build_dataset(dict(make_coco([[(1, 2, 10, 20, 10), dict(bbox=[0, 0, 5, 5], category_id=20, iscrowd=1)]]),
                                 pipeline=PIPELINE))
    sample = dataset[0]
    assert sample.image.shape == (3, 48, 64) and sample.image.dtype == torch.uint8
    assert sample.target['boxes'].tolist() == [[1, 2, 11, 22], [0, 0, 5, 5]]
    assert sample.target['ignore'].tolist() == [False, True]
    assert sample.meta.img_id == 0 and sample.meta.ori_shape == (48, 64) and sample.meta.img_path.endswith('0.png')


def test_boxes_without_area_or_outside_are_left_out_and_counted_once(make_coco, caplog):
    cfg = make_coco([[(1, 1, 5, 5, 10), (3, 3, 0, 0, 10), (70, 3, 9, 9, 10), (-9, 3, 8, 9, 20), (60, 40, 30, 30, 20)]])
    with caplog.at_level(logging.WARNING, 'omnidet'):
        dataset = build_dataset(cfg)
    assert [i['bbox'] for i in dataset.load(0)['instances']] == [[1, 1, 6, 6], [60, 40, 90, 70]]
    assert len(caplog.records) == 1 and '3 of 5 annotations' in caplog.text and 'annotation 2 of image 0' in caplog.text


def test_filters_count_images_of_the_chosen_classes_and_not_in_test_mode(make_coco):
    cfg = dict(make_coco([[(1, 1, 5, 5, 10)], [], [(1, 1, 5, 5, 20)], [(1, 1, 5, 5, 10)]],
                         sizes=[(64, 48), (64, 48), (64, 48), (20, 64)]), metainfo=dict(classes=('cat',)))
    filters = dict(filter_empty_gt=True, min_size=32)
    assert build_dataset(dict(cfg, filter_cfg=filters)).image_ids == [0]
    assert build_dataset(dict(cfg, filter_cfg=dict(filter_empty_gt=True))).image_ids == [0, 3]
    assert build_dataset(dict(cfg, filter_cfg=filters, test_mode=True)).image_ids == [0, 1, 2, 3]
    assert build_dataset(dict(cfg, indices=2)).image_ids == [0, 1]
    assert build_dataset(dict(cfg, indices=[3, 0])).image_ids == [3, 0]


def test_classes_that_do_not_match_list_both_sides(make_coco):
    cfg = make_coco([[(1, 1, 5, 5, 10)]])
    with pytest.raises(DatasetError) as e:
        build_dataset(dict(cfg, metainfo=dict(classes=('cat', 'dgo'))))
    assert "did you mean 'dog'" in str(e.value) and "'cat', 'dgo'" in str(e.value) and "'cat', 'dog'" in str(e.value)


def test_forgotten_classes_are_found_out_and_cocos_own_may_be_incomplete(make_coco):
    cfg = make_coco([[(1, 1, 5, 5, 10)]], names=('dog', 'helmet'))
    cfg.pop('metainfo')
    with pytest.raises(DatasetError, match='helmet'):
        build_dataset(cfg)
    cfg = make_coco([[(1, 1, 5, 5, 20)]], names=('dog', 'cat'))
    cfg.pop('metainfo')
    dataset = build_dataset(cfg)
    assert len(dataset.classes) == len(dataset.metainfo['palette']) == 80
    assert dataset.get_cat_ids(0) == [dataset.classes.index('cat')] and dataset.cat_ids[0] == -1


@pytest.mark.parametrize('change, message', [
    (dict(images=[dict(id=0, file_name='a', width=4)]), r"images\[0\] has no field 'height'"),
    (dict(images=[dict(id=0, file_name='a', width=4, height=4)] * 2), r'\[0\] and images\[1\] have the same id 0'),
    (dict(images=3), "no list 'images'"),
    (dict(images=[7]), r'images\[0\] is a int'),
    (dict(categories=[dict(id=1, name='cat'), dict(id=2, name='cat')]), "same name 'cat'"),
    (dict(annotations=[dict(id=1, image_id=0, category_id=10)]), r"annotations\[0\] has no field 'bbox'"),
    (dict(annotations=[dict(id=1, image_id=0, category_id=10, bbox=[1, 2, 3])]), r'annotations\[0\]: bbox should be 4'),
    (dict(annotations=[dict(id=1, image_id=0, category_id=10, bbox=[1, 2, 3, float('nan')])]), 'should be 4 numbers'),
    (dict(annotations=[dict(id=1, image_id=0, category_id=10, bbox=[1, 2, 3, 'x'])]), 'bbox should be 4 numbers'),
    (dict(annotations=[dict(id=1, image_id=99, category_id=10, bbox=[1, 2, 3, 4])]), 'image_id 99, which no entry of'),
    (dict(annotations=[dict(id=1, image_id=0, category_id=11, bbox=[1, 2, 3, 4])]), 'category_id 11, which no entry'),
    (dict(annotations=[dict(id=1, image_id=0, category_id=10, bbox=[1, 2, 3, 4])] * 2), 'same id 1'),
])
def test_a_damaged_file_is_an_error_that_names_file_and_field(make_coco, change, message):
    with pytest.raises(DatasetError, match=message) as e:
        build_dataset(make_coco([[(1, 1, 5, 5, 10)]], **change))
    assert 'ann.json' in str(e.value)


def test_missing_truncated_and_foreign_files_are_errors(make_coco, tmp_path):
    cfg = make_coco([[(1, 1, 5, 5, 10)]])
    with pytest.raises(DatasetError, match='no such annotation file'):
        build_dataset(dict(cfg, ann_file='absent/ann.json'))
    whole = (tmp_path / 'ann.json').read_text()
    (tmp_path / 'ann.json').write_text(whole[:len(whole) // 2])
    with pytest.raises(DatasetError, match=r'no whole json file.*line 1'):
        build_dataset(cfg)
    (tmp_path / 'ann.json').write_text('[1, 2]')
    with pytest.raises(DatasetError, match='no COCO json: its top level is a list'):
        build_dataset(cfg)
    (tmp_path / 'ann.json').write_bytes(b'\xff\xfe\x00binary')
    with pytest.raises(DatasetError, match='no json file'):
        build_dataset(cfg)


def test_an_empty_result_is_an_error(make_coco):
    with pytest.raises(DatasetError, match='no image is left after filter_cfg'):
        build_dataset(dict(make_coco([[]]), filter_cfg=dict(filter_empty_gt=True)))


def test_a_test_file_without_annotations_is_read(make_coco, tmp_path):
    cfg = make_coco([[], []])
    data = json.loads((tmp_path / 'ann.json').read_text())
    del data['annotations']
    (tmp_path / 'ann.json').write_text(json.dumps(data))
    assert len(build_dataset(cfg, test_mode=True)) == 2


def test_ids_may_be_strings(make_coco):
    images = [dict(id='left', file_name='0.png', width=64, height=48)]
    cfg = make_coco([[]], images=images, annotations=[dict(image_id='left', category_id=10, bbox=[1, 1, 5, 5])])
    dataset = build_dataset(dict(cfg, pipeline=PIPELINE))
    assert dataset.image_ids == ['left'] and dataset[0].meta.img_id == 'left' and len(dataset[0].target['boxes']) == 1


@pytest.mark.parametrize('cfg', [dict(backend_args=dict(backend='s3')), dict(filter_cfg=dict(min_sise=3)),
                                 dict(metainfo=dict(classes=('a', 'a'))), dict(piepline=[])])
def test_arguments_that_mean_nothing_are_refused(make_coco, cfg):
    with pytest.raises(ConfigError):
        build_dataset(dict(make_coco([[(1, 1, 5, 5, 10)]]), **cfg))


def test_masks_are_kept_where_the_pipeline_wants_them(make_coco):
    square, rle = [[1.5, 1.5, 9, 1.5, 9, 9, 1.5, 9]], dict(size=[48, 64], counts=[2, 6, 3064])
    cfg = make_coco([[dict(bbox=[1, 1, 8, 8], category_id=10, segmentation=square),
                      dict(bbox=[0, 0, 6, 6], category_id=20, segmentation=rle, iscrowd=1)]])
    dataset = build_dataset(dict(cfg, pipeline=PIPELINE))
    assert 'mask' not in dataset.load(0)['instances'][0]
    dataset.set_pipeline([PIPELINE[0], dict(type='LoadAnnotations', with_bbox=True, with_mask=True), PIPELINE[2]])
    first, second = (i['mask'] for i in dataset.load(0)['instances'])
    assert first[0].tolist() == square[0] and second['counts'].tolist() == rle['counts']
    assert dataset[0].target['masks'].area().tolist() == pytest.approx([56, 6], abs=10)


def test_records_come_back_as_they_went_in():
    masks = [[np.arange(6.0), np.arange(8.0)], dict(size=[3, 4], counts=b'0123'), None]
    records = [dict(img_path='a.jpg', img_id=5, height=3, width=4,
                    instances=[dict(bbox=[0, 0, 1, 2], bbox_label=n, ignore_flag=n % 2, mask=m)
                               for n, m in enumerate(masks)]),
               dict(img_path='bä.jpg', img_id=6, height=30, width=40, instances=[])]
    store = AnnotationStore.from_records(records)
    assert store.image(1) == dict(img_id=6, file_name='bä.jpg', width=40, height=30, seg_map_path=None)
    back = store.instances(0)
    assert [p.tolist() for p in back[0]['mask']] == [p.tolist() for p in masks[0]]
    assert back[1] == dict(bbox=[0, 0, 1, 2], bbox_label=1, ignore_flag=1, mask=masks[1]) and back[2]['mask'] is None
    assert store.instances(1) == []


def _look_and_write(store, queue):
    queue.put((store.instances(0), store.image(0)['file_name']))
    store._arrays['labels'][0] = 77    # the parent sees this only if the memory is the same


def test_workers_share_one_buffer_even_when_spawned():
    record = dict(img_path='a.jpg', img_id=5, height=3, width=4, instances=[dict(bbox=[0, 0, 1, 2], bbox_label=1)])
    store = AnnotationStore.from_records([record])
    assert store.buffer.is_shared()
    context = torch.multiprocessing.get_context('spawn')
    queue = context.Queue()
    process = context.Process(target=_look_and_write, args=(store, queue))
    process.start()
    seen = queue.get(timeout=60)
    process.join(60)
    assert seen == ([dict(bbox=[0, 0, 1, 2], bbox_label=1, ignore_flag=0)], 'a.jpg')
    assert store.labels(0).tolist() == [77]


def test_no_python_object_per_image_is_kept(make_coco):
    import gc
    few, many = (build_dataset(make_coco([[(1, 1, 5, 5, 10)] * 3] * n, write_images=False)) for n in (5, 500))
    gc.collect()

    def reachable(dataset):
        seen, todo = set(), [dataset.store]
        while todo:
            item = todo.pop()
            if id(item) not in seen and not isinstance(item, type) and type(item).__module__ in (
                    'builtins', 'omnidet.data.store') and not callable(item):
                seen.add(id(item))
                todo += gc.get_referents(item)
        return len(seen)
    assert reachable(many) <= reachable(few) + 20 and len(many) == 500    # a few ints are no longer small


def test_repeating_and_joining_data_sets(make_coco):
    a = dict(make_coco([[(1, 1, 5, 5, 10)], [(1, 1, 5, 5, 20)]]), pipeline=PIPELINE)
    b = dict(make_coco([[(2, 2, 6, 6, 20)]], name='b.json'), pipeline=PIPELINE)
    joined = build_dataset(dict(type='ConcatDataset', datasets=[a, b]))
    assert len(joined) == 3 and joined[2].target['boxes'].tolist() == [[2, 2, 8, 8]]
    assert joined.sizes.tolist() == [[64, 48]] * 3 and joined.cat_ids == [10, 20]
    repeated = build_dataset(dict(type='RepeatDataset', times=3, dataset=a))
    assert repeated.image_ids == [0, 1, 0, 1, 0, 1]
    with pytest.raises(ConfigError, match='differ in their classes'):
        build_dataset(dict(type='ConcatDataset', datasets=[a, dict(b, metainfo=dict(classes='dog'))]))


def test_rare_classes_are_repeated(make_coco):
    images = [[(1, 1, 5, 5, 10)] for _ in range(15)] + [[(1, 1, 5, 5, 20), (9, 9, 5, 5, 10)]]
    dataset = build_dataset(dict(type='ClassBalancedDataset', oversample_thr=0.5, dataset=make_coco(images)))
    # dog is in 1 of 16 images: sqrt(0.5 * 16) = 2.83, so that image comes three times; cat is in all
    assert sorted(dataset.image_ids) == [*range(16), 15, 15]


def test_annotations_keep_their_order_though_images_alternate(make_coco, tmp_path):
    cfg = make_coco([[], []])
    data = json.loads((tmp_path / 'ann.json').read_text())
    data['annotations'] = [dict(id=n, image_id=n % 2, category_id=10, bbox=[n % 50, 1, 5, 5]) for n in range(80)]
    (tmp_path / 'ann.json').write_text(json.dumps(data))
    dataset = build_dataset(cfg)
    assert [i['bbox'][0] for i in dataset.load(1)['instances']] == [n % 50 for n in range(1, 80, 2)]
