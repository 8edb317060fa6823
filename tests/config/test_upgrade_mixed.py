"""Files of 2.x that inherit from the old zoo: ours, which is in the form of 3.x, stands in for it."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from omnidet.config import load_config
from omnidet.config.nodes import walk
from omnidet.errors import ConfigError

FASTER = "_base_ = '../faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py'\n"
ZOO = load_config('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')


def test_a_child_changes_what_it_names_and_nothing_else(load):
    cfg = load(FASTER + textwrap.dedent("""
        classes = ('cat', 'dog')
        data = dict(
            samples_per_gpu=4,
            train=dict(ann_file='pets/train.json', img_prefix='pets/train/', classes=classes),
            val=dict(ann_file='pets/val.json', classes=classes))
        optimizer = dict(lr=0.001)
        runner = dict(max_epochs=24)
        lr_config = dict(step=[16, 22])
        evaluation = dict(interval=2, classwise=True, save_best='bbox_mAP')
        log_config = dict(interval=10)
        checkpoint_config = dict(max_keep_ckpts=3)
        load_from = 'faster.pth'
    """))
    want = load_config('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    want.classes = ('cat', 'dog')
    meta = dict(classes=('cat', 'dog'))
    want.train_dataloader.update(batch_size=4, dataset=dict(
        data_root='', ann_file='pets/train.json', data_prefix=dict(img='pets/train/'), metainfo=meta))
    want.val_dataloader.dataset.update(data_root='', ann_file='pets/val.json', metainfo=meta,
                                       data_prefix=dict(img='data/coco/val2017/'))    # as the base has it
    want.val_evaluator.update(ann_file='pets/val.json', classwise=True)
    want.test_evaluator.classwise = True
    want.optim_wrapper.optimizer.lr = 0.001
    want.train_cfg.update(max_epochs=24, val_interval=2)
    want.param_scheduler[1].update(end=24, milestones=[16, 22])
    want.default_hooks.logger.interval = 10
    want.default_hooks.checkpoint.update(max_keep_ckpts=3, save_best='coco/bbox_mAP')
    want.log_processor.window_size = 10
    want.model.roi_head.bbox_head.num_classes = 2
    want.load_from = 'faster.pth'
    assert cfg.to_dict() == want.to_dict()


def test_the_data_root_of_the_child_is_where_its_paths_start(load):
    cfg = load(FASTER + textwrap.dedent("""
        data_root = 'pets/'
        data = dict(train=dict(ann_file=data_root + 'train.json', img_prefix=data_root + 'img/'),
                    test=dict(ann_file=data_root + 'test.json', img_prefix=data_root))
    """))
    train, val, test = (cfg[f'{s}_dataloader'].dataset for s in ('train', 'val', 'test'))
    assert (train.data_root, train.ann_file, train.data_prefix) == ('pets/', 'train.json', dict(img='img/'))
    assert (test.data_root, test.ann_file, test.data_prefix) == ('pets/', 'test.json', dict(img=''))
    assert val == ZOO.val_dataloader.dataset
    assert cfg.test_evaluator.ann_file == 'pets/test.json' and cfg.val_evaluator == ZOO.val_evaluator


def test_a_data_root_alone_moves_the_files_that_are_inherited(load):
    cfg = load(FASTER + "data = dict(train=dict(data_root='elsewhere/'))")
    dataset = cfg.train_dataloader.dataset
    assert (dataset.data_root, dataset.ann_file) == ('elsewhere/', 'annotations/instances_train2017.json')


def test_what_is_to_be_deleted_is_replaced(load):
    cfg = load(FASTER + textwrap.dedent("""
        optimizer = dict(_delete_=True, type='AdamW', lr=1e-4, paramwise_cfg=dict(norm_decay_mult=0.))
        optimizer_config = dict(_delete_=True, grad_clip=dict(max_norm=1))
        lr_config = dict(_delete_=True, policy='CosineAnnealing', min_lr=0)
        data = dict(train=dict(_delete_=True, type='RepeatDataset', times=2,
                               dataset=dict(type='CocoDataset', ann_file='a.json', img_prefix='i/')))
    """))
    assert cfg.optim_wrapper == dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4),
                                     paramwise_cfg=dict(norm_decay_mult=0.0), clip_grad=dict(max_norm=1))
    assert cfg.param_scheduler == [dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=12, T_max=12, eta_min=0)]
    assert cfg.train_dataloader.dataset == dict(type='RepeatDataset', times=2, dataset=dict(
        type='CocoDataset', ann_file='a.json', data_prefix=dict(img='i/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32)))


@pytest.mark.parametrize(('text', 'expected'), [
    ("lr_config = dict(warmup_iters=100)", [('end', 100), ('milestones', [8, 11])]),
    ("lr_config = dict(policy='CosineAnnealing', min_lr_ratio=0.1)", [('start_factor', 0.001), ('eta_min_ratio', 0.1)]),
    ('runner = dict(max_epochs=24)', [('end', 500), ('end', 24)]),
    ('total_epochs = 24', [('end', 500), ('end', 24)]),
])
def test_a_part_of_the_schedule(load, text, expected):
    cfg = load(FASTER + text)
    assert [(key, s[key]) for s, (key, _) in zip(cfg.param_scheduler, expected, strict=True)] == expected


def test_a_pipeline_of_the_child(load):
    cfg = load(FASTER + textwrap.dedent("""
        norm = dict(mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0], to_rgb=False)
        train_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', img_scale=(8, 4)),
                          dict(type='Normalize', **norm), dict(type='Collect', keys=['img'])]
        data = dict(train=dict(pipeline=train_pipeline))
    """))
    new = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(8, 4), keep_ratio=True),
           dict(type='PackDetInputs')]
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline == new
    assert cfg.train_dataloader.dataset.ann_file == ZOO.train_dataloader.dataset.ann_file
    assert cfg.val_dataloader == ZOO.val_dataloader and cfg.test_pipeline == ZOO.test_pipeline
    assert cfg.model.data_preprocessor == dict(ZOO.model.data_preprocessor, mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0],
                                               bgr_to_rgb=False)


def test_data_sets_below_the_wrappers_of_the_zoo(load):
    cfg = load("_base_ = '../pascal_voc/faster_rcnn_r50_fpn_1x_voc0712.py'\n"
               "data = dict(train=dict(times=5, dataset=dict(classes=('a',), filter_empty_gt=False)))")
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.times, dataset.dataset.type) == ('RepeatDataset', 5, 'ConcatDataset')
    for leaf in dataset.dataset.datasets:
        assert leaf.metainfo == dict(classes=('a',)) and leaf.filter_cfg.filter_empty_gt is False
    files = [d.ann_file for d in dataset.dataset.datasets]
    assert files == [f'VOC{year}/ImageSets/Main/trainval.txt' for year in (2007, 2012)]


def test_the_outer_pipeline_of_yolox_is_the_wrappers(load):
    cfg = load("""
        _base_ = '../yolox/yolox_s_8x8_300e_coco.py'
        data = dict(train=dict(pipeline=[dict(type='Mosaic', img_scale=(3, 4)), dict(type='Collect', keys=[])],
                               dataset=dict(ann_file='a.json', img_prefix='i/')))
    """)
    dataset = cfg.train_dataloader.dataset
    assert dataset.pipeline == [dict(type='Mosaic', img_scale=(4, 3)), dict(type='PackDetInputs')]
    assert (dataset.dataset.ann_file, dataset.dataset.data_prefix) == ('a.json', dict(img='i/'))
    assert [t.type for t in dataset.dataset.pipeline] == ['LoadImageFromFile', 'LoadAnnotations']


def test_a_run_by_iterations_over_one_by_epochs(load):
    cfg = load(FASTER + textwrap.dedent("""
        runner = dict(_delete_=True, type='IterBasedRunner', max_iters=90000)
        lr_config = dict(step=[60000, 80000])
        checkpoint_config = dict(interval=10000)
        evaluation = dict(interval=10000)
    """))
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=10000)
    assert cfg.train_dataloader.sampler == dict(type='InfiniteSampler', shuffle=True)
    assert cfg.param_scheduler[1] == dict(type='MultiStepLR', begin=0, end=90000, by_epoch=False,
                                          milestones=[60000, 80000], gamma=0.1)
    assert cfg.default_hooks.checkpoint == dict(type='CheckpointHook', interval=10000, by_epoch=False)


def test_another_kind_of_data_set_has_another_evaluator(load):
    cfg = load(FASTER + "data = dict(val=dict(type='VOCDataset', ann_file='VOC2007/a.txt', img_prefix='VOC2007/'))")
    assert cfg.val_dataloader.dataset.data_prefix.sub_data_root == 'VOC2007/'
    assert cfg.val_evaluator == dict(type='VOCMetric', metric='mAP', eval_mode='11points')


def test_an_inherited_schedule_of_which_no_part_can_be_changed(load):
    with pytest.raises(ConfigError, match=r'cfg.py:2: lr_config: the config inherits a schedule with .*Quadratic'):
        load("_base_ = '../yolox/yolox_s_8x8_300e_coco.py'\nlr_config = dict(step=[8])")


# ---- damage ----

WHOLE = dict(
    model=dict(type='FasterRCNN', pretrained='torchvision://resnet50', backbone=dict(type='ResNet')),
    data_root='d/', classes=['a', 'b'], img_norm_cfg=dict(mean=[1.0], std=[1.0], to_rgb=True),
    train_pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', img_scale=[[8, 4], [8, 6]])],
    data=dict(samples_per_gpu=2, workers_per_gpu=1, val_dataloader=dict(samples_per_gpu=1), train=dict(
        type='RepeatDataset', times=2, dataset=dict(
            type='CocoDataset', ann_file=['d/a.json', 'd/b.json'], img_prefix='d/', classes=['a', 'b'], pipeline=[
                dict(type='LoadAnnotations', with_bbox=True), dict(type='RandomFlip', flip_ratio=0.5),
                dict(type='RandomCrop', crop_size=[3, 4]), dict(type='Normalize', mean=[1.0], std=[1.0]),
                dict(type='Pad', size=[3, 4], pad_val=dict(img=[1])), dict(type='Collect', keys=['img'])])),
        val=dict(type='CocoPanopticDataset', ann_file='d/c.json', seg_prefix='d/seg', ins_ann_file='d/d.json',
                 pipeline=[dict(type='MultiScaleFlipAug', img_scale=[8, 4], flip=True,
                                transforms=[dict(type='Resize')])])),
    optimizer=dict(type='SGD', lr=0.1, paramwise_cfg=dict(norm_decay_mult=0)),
    optimizer_config=dict(grad_clip=dict(max_norm=1)), fp16=dict(loss_scale=1.0),
    lr_config=dict(policy='CosineAnnealing', warmup='linear', warmup_iters=10, warmup_ratio=0.1, min_lr=0),
    momentum_config=dict(policy='cyclic', target_ratio=[0.8, 1]), runner=dict(type='EpochBasedRunner', max_epochs=2),
    checkpoint_config=dict(interval=1), log_config=dict(interval=1, hooks=[dict(type='TextLoggerHook')]),
    custom_hooks=[dict(type='ExpMomentumEMAHook', momentum=0.1)], evaluation=dict(interval=1, metric=['PQ', 'bbox']),
    dist_params=dict(backend='nccl'), workflow=[['train', 1]], custom_imports=dict(imports=['mmcls.models']))


@pytest.mark.parametrize('value', [None, 3, 'x', [], {}, [1, 'x'], {'type': 1}, [[[]]], -1.5, {'_delete_': True}],
                         ids=str)
def test_any_entry_of_a_wrong_form_ends_in_a_config_or_a_message(tmp_path: Path, value: object):
    load_config(_written(tmp_path, WHOLE))
    for path, _ in walk(WHOLE):
        if not path:
            continue
        damaged = json.loads(json.dumps(WHOLE))
        box = damaged
        for key in path[:-1]:
            box = box[key]
        box[path[-1]] = value
        try:
            load_config(_written(tmp_path, damaged))
        except ConfigError as e:
            assert 'cfg.json' in str(e), path


def _written(folder: Path, cfg: object) -> Path:
    path = folder / 'cfg.json'
    path.write_text(json.dumps(cfg))
    return path
