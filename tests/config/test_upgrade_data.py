"""Data sets and dataloaders of 2.x in the form of 3.x, as a reader of the 2.x documentation would write them."""

from __future__ import annotations

import pytest

from omnidet.errors import ConfigError

RUNNER = "runner = dict(type='EpochBasedRunner', max_epochs=2)\n"


@pytest.fixture
def train(load):
    """The training data set that `text` of 2.x describes."""
    def train(text: str, head: str = ''):
        return load(f'{head}\ndata = dict(train={text})\n{RUNNER}').train_dataloader.dataset
    return train


def test_the_loaders_of_a_whole_experiment(load):
    cfg = load("""
        data_root = 'data/pets/'
        data = dict(
            samples_per_gpu=4, workers_per_gpu=3,
            train=dict(type='CocoDataset', ann_file=data_root + 'train.json', img_prefix=data_root + 'train/'),
            val=dict(type='CocoDataset', ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'),
            test=dict(type='CocoDataset', ann_file=data_root + 'val.json', img_prefix=data_root, samples_per_gpu=2))
    """)
    common = dict(type='CocoDataset', data_root='data/pets/')
    assert cfg.train_dataloader == dict(
        batch_size=4, num_workers=3, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=dict(type='AspectRatioBatchSampler'),
        dataset=dict(**common, ann_file='train.json', data_prefix=dict(img='train/'),
                     filter_cfg=dict(filter_empty_gt=True, min_size=32)))
    assert cfg.val_dataloader == dict(
        batch_size=1, num_workers=3, persistent_workers=True, drop_last=False,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(**common, ann_file='val.json', data_prefix=dict(img='val/'), test_mode=True))
    assert (cfg.test_dataloader.batch_size, cfg.test_dataloader.dataset.data_prefix) == (2, dict(img=''))
    assert cfg.val_evaluator == dict(type='CocoMetric', ann_file='data/pets/val.json', metric='bbox')
    assert 'data' not in cfg and cfg.data_root == 'data/pets/'


def test_options_of_single_loaders(load):
    cfg = load("""
        data = dict(train_dataloader=dict(samples_per_gpu=8, persistent_workers=True, drop_last=True, shuffle=False),
                    val_dataloader=dict(samples_per_gpu=3, workers_per_gpu=0),
                    train=dict(type='CocoDataset', ann_file='a.json'), val=dict(type='CocoDataset', ann_file='b.json'))
    """)
    loader = cfg.train_dataloader
    assert (loader.batch_size, loader.drop_last, loader.sampler.shuffle) == (8, True, False)
    assert 'batch_sampler' not in loader
    assert (cfg.val_dataloader.batch_size, cfg.val_dataloader.num_workers) == (3, 0)
    assert not cfg.val_dataloader.persistent_workers


def test_a_run_by_iterations_draws_images_without_an_end(load):
    cfg = load("""
        data = dict(samples_per_gpu=2, train=dict(type='CocoDataset', ann_file='a.json'))
        runner = dict(type='IterBasedRunner', max_iters=100)
    """)
    assert cfg.train_dataloader.sampler == dict(type='InfiniteSampler', shuffle=True)


def test_a_sampler_aware_of_classes(load):
    cfg = load("""
        data = dict(samples_per_gpu=2, train_dataloader=dict(class_aware_sampler=dict(num_sample_class=1)),
                    train=dict(type='CocoDataset', ann_file='a.json'))
    """)
    assert cfg.train_dataloader.sampler == dict(type='ClassAwareSampler', num_sample_class=1)
    assert 'batch_sampler' not in cfg.train_dataloader


@pytest.mark.parametrize(('root', 'ann_file', 'prefix', 'expected'), [
    ('data/x/', 'data/x/a.json', 'data/x/img/', ('data/x/', 'a.json', 'img/')),
    ('data/x', 'data/x/a.json', 'data/x', ('data/x', 'a.json', '')),
    ('data/x/', 'data/y/a.json', 'data/x/img/', (None, 'data/y/a.json', 'data/x/img/')),
    ('data/x', 'data/xy/a.json', 'data/x/img', (None, 'data/xy/a.json', 'data/x/img')),
    ('data/x/', '/abs/a.json', '/abs/img', (None, '/abs/a.json', '/abs/img')),
])
def test_paths_are_relative_where_all_lie_below_the_root(train, root, ann_file, prefix, expected):
    got = train(f"dict(type='CocoDataset', ann_file={ann_file!r}, img_prefix={prefix!r})", f'data_root = {root!r}')
    assert (got.get('data_root'), got.ann_file, got.data_prefix.img) == expected


@pytest.mark.parametrize(('ann_file', 'expected'), [
    ('a.json', 'a.json'), ('own/a.json', 'a.json'), ('sub/a.json', 'sub/a.json')])
def test_a_data_sets_own_root_is_where_its_paths_start(train, ann_file, expected):
    got = train(f"dict(type='CocoDataset', data_root='own/', ann_file={ann_file!r}, img_prefix='img')")
    assert (got.data_root, got.ann_file, got.data_prefix) == ('own/', expected, dict(img='img'))


def test_a_path_of_its_own_takes_the_root_from_all(train):
    got = train("dict(type='CocoDataset', data_root='own/', ann_file='/abs/a.json', img_prefix='img')")
    assert (got.get('data_root'), got.ann_file, got.data_prefix) == ('', '/abs/a.json', dict(img='own/img'))


def test_other_files_and_arguments(train):
    got = train("""dict(type='CocoDataset', ann_file='d/a.json', img_prefix='d/', seg_prefix='d/seg', seg_suffix='.bmp',
                        proposal_file='d/p.pkl', filter_empty_gt=False, test_mode=False,
                        file_client_args=dict(backend='disk'), own_argument=3)""", "data_root = 'd/'")
    assert got == dict(type='CocoDataset', data_root='d/', ann_file='a.json', data_prefix=dict(img='', seg='seg'),
                       proposal_file='p.pkl', seg_map_suffix='.bmp', own_argument=3,
                       filter_cfg=dict(filter_empty_gt=False, min_size=32))


@pytest.mark.parametrize(('classes', 'expected'), [
    ("('cat', 'dog')", ('cat', 'dog')), ("['cat']", ('cat',)), ("'cat'", ('cat',)), ("'names.txt'", ('a b', 'c'))])
def test_classes_in_all_their_forms(train, tmp_path, classes, expected):
    (tmp_path / 'names.txt').write_text('a b\n\n c \n')
    got = train(f"dict(type='CocoDataset', ann_file='a.json', classes={classes}, palette=[(1, 2, 3)])")
    assert got.metainfo == dict(classes=expected, palette=[(1, 2, 3)])


@pytest.mark.parametrize(('classes', 'message'), [
    ("'no/such.txt'", r'cfg.py:2: data.train.classes: there is no file no/such.txt'),
    ('3', r'cfg.py:2: data.train.classes: it is a list of names, or the path of a text file of them; found 3'),
])
def test_classes_that_are_none(train, classes, message):
    with pytest.raises(ConfigError, match=message):
        train(f"dict(type='CocoDataset', ann_file='a.json', classes={classes})")


def test_heads_left_at_80_classes_get_as_many_as_are_named(load):
    cfg = load("""
        model = dict(type='MaskRCNN', rpn_head=dict(num_classes=1), roi_head=dict(
            bbox_head=[dict(num_classes=80), dict(num_classes=80)], mask_head=dict(num_classes=7)))
        data = dict(train=dict(type='CocoDataset', ann_file='a.json', classes=('a', 'b')))
    """)
    assert cfg.model.rpn_head.num_classes == 1
    assert [h.num_classes for h in cfg.model.roi_head.bbox_head] == [2, 2]
    assert cfg.model.roi_head.mask_head.num_classes == 7
    path = 'model.roi_head.bbox_head.0.num_classes'
    assert (path, path, '80 is 2, as many classes as the data set names') in cfg.changes


# ---- data sets of others ----

LEAF = "type='CocoDataset', ann_file='a.json', img_prefix='i/'"
DONE = dict(type='CocoDataset', ann_file='a.json', data_prefix=dict(img='i/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32))


@pytest.mark.parametrize(('text', 'expected'), [
    (f"dict(type='RepeatDataset', times=3, dataset=dict({LEAF}))", dict(type='RepeatDataset', times=3, dataset=DONE)),
    (f"dict(type='ClassBalancedDataset', oversample_thr=1e-3, filter_empty_gt=True, dataset=dict({LEAF}))",
     dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=DONE)),
    (f'[dict({LEAF}), dict({LEAF})]', dict(type='ConcatDataset', datasets=[DONE, DONE])),
    (f'[dict({LEAF})]', DONE),
    (f"dict(type='ConcatDataset', datasets=[dict({LEAF})] * 2, separate_eval=True)",
     dict(type='ConcatDataset', datasets=[DONE, DONE])),
    ("dict(type='CocoDataset', ann_file=['a.json', 'b.json'], img_prefix='i/')",
     dict(type='ConcatDataset', datasets=[DONE, {**DONE, 'ann_file': 'b.json'}])),
    (f"dict(type='RepeatDataset', times=2, dataset=[dict({LEAF})] * 2)",
     dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[DONE, DONE]))),
    (f"dict(type='MultiImageMixDataset', dynamic_scale=(640, 640), max_refetch=5, pipeline=[dict(type='Collect')], "
     f"dataset=dict({LEAF}, pipeline=[dict(type='LoadImageFromFile')]))",
     dict(type='MultiImageMixDataset', max_refetch=5, pipeline=[dict(type='PackDetInputs')],
          dataset={**DONE, 'pipeline': [dict(type='LoadImageFromFile')]})),
])
def test_data_sets_that_wrap_others(train, text, expected):
    assert train(text) == expected


def test_lists_of_unequal_length_are_refused(train):
    with pytest.raises(ConfigError, match=r'cfg.py:2: data.train.img_prefix: 2 entries, where other lists have 3'):
        train("dict(type='CocoDataset', ann_file=['a', 'b', 'c'], img_prefix=['i', 'j'])")


def test_pascal_voc_of_two_years(load):
    cfg = load("""
        data_root = 'VOCdevkit/'
        data = dict(
            train=dict(type='RepeatDataset', times=3, dataset=dict(
                type='VOCDataset', min_size=8,
                ann_file=[data_root + 'VOC2007/a.txt', data_root + 'VOC2012/a.txt'],
                img_prefix=[data_root + 'VOC2007/', data_root + 'VOC2012/'])),
            val=dict(type='VOCDataset', ann_file=data_root + 'VOC2007/t.txt', img_prefix=data_root + 'VOC2007/'),
            test=dict(type='VOCDataset', ann_file=data_root + 'VOC2012/t.txt', img_prefix=data_root + 'VOC2012/'))
        evaluation = dict(interval=1, metric='mAP', save_best='mAP')
    """)
    concat = cfg.train_dataloader.dataset.dataset
    assert concat.type == 'ConcatDataset' and concat.ignore_keys == ['dataset_type']
    assert concat.datasets[1] == dict(
        type='VOCDataset', data_root='VOCdevkit/', ann_file='VOC2012/a.txt', data_prefix=dict(sub_data_root='VOC2012/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=8))
    assert cfg.val_evaluator == dict(type='VOCMetric', metric='mAP', eval_mode='11points')
    assert cfg.test_evaluator == dict(type='VOCMetric', metric='mAP', eval_mode='area')
    assert cfg.default_hooks.checkpoint.save_best == 'pascal_voc/mAP'


def test_a_panoptic_set_with_instances_is_scored_by_two(load):
    cfg = load("""
        data_root = 'coco/'
        data = dict(val=dict(
            type='CocoPanopticDataset', ann_file=data_root + 'panoptic.json', img_prefix=data_root + 'i',
            seg_prefix=data_root + 'panoptic/', ins_ann_file=data_root + 'instances.json'))
        evaluation = dict(interval=1, metric=['PQ', 'bbox', 'segm'], save_best='PQ')
    """)
    assert cfg.val_dataloader.dataset == dict(type='CocoPanopticDataset', data_root='coco/', ann_file='panoptic.json',
                                              data_prefix=dict(img='i', seg='panoptic/'), test_mode=True)
    assert cfg.val_evaluator == [
        dict(type='CocoPanopticMetric', ann_file='coco/panoptic.json', seg_prefix='coco/panoptic/'),
        dict(type='CocoMetric', ann_file='coco/instances.json', metric=['bbox', 'segm'])]
    assert cfg.default_hooks.checkpoint.save_best == 'coco_panoptic/PQ'


@pytest.mark.parametrize(('kind', 'metric', 'expected'), [
    ('LVISV1Dataset', "['bbox', 'segm']", dict(type='LVISMetric', ann_file='a.json', metric=['bbox', 'segm'])),
    ('DeepFashionDataset', "'bbox'", dict(type='CocoMetric', ann_file='a.json', metric='bbox')),
    ('Objects365V1Dataset', "['bbox']",
     dict(type='CocoMetric', ann_file='a.json', metric='bbox', sort_categories=True)),
    ('WIDERFaceDataset', "'mAP'", dict(type='VOCMetric', metric='mAP', eval_mode='area')),
    ('CocoDataset', "'proposal_fast'", dict(type='CocoMetric', ann_file='a.json', metric='proposal_fast')),
    ('MyOwnDataset', "'bbox'", dict(type='CocoMetric', ann_file='a.json', metric='bbox')),
    ('OpenImagesDataset', "'mAP'", dict(type='OpenImagesMetric', iou_thrs=0.5, ioa_thrs=0.5, use_group_of=True,
                                        get_supercategory=True)),
])
def test_each_data_set_has_its_evaluator(load, kind, metric, expected):
    cfg = load(f"""
        data = dict(val=dict(type={kind!r}, ann_file='a.json'))
        evaluation = dict(metric={metric})
    """)
    assert cfg.val_evaluator == expected


def test_cityscapes_is_scored_by_its_own_rules_where_asked(load):
    cfg = load("""
        data = dict(val=dict(type='CityscapesDataset', ann_file='c/a.json', img_prefix='c/leftImg8bit/val/'))
        evaluation = dict(metric=['bbox', 'cityscapes'])
    """)
    assert cfg.val_evaluator == [dict(type='CocoMetric', ann_file='c/a.json', metric='bbox'),
                                 dict(type='CityScapesMetric', seg_prefix='c/gtFine/val/')]
