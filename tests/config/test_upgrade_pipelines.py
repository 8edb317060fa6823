"""Pipelines of 2.x in the form of 3.x, and the preprocessor that takes over from their ends."""

from __future__ import annotations

import pytest

from omnidet.config.nodes import ConfigDict, Origins
from omnidet.config.upgrade.transforms import upgrade_transform
from omnidet.config.upgrade.work import Work
from omnidet.errors import ConfigError

NORM = "dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)"
TEST_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
LOAD = dict(type='LoadImageFromFile')
BOXES = dict(type='LoadAnnotations', with_bbox=True)
PACK = dict(type='PackDetInputs')
PACK_TEST = dict(type='PackDetInputs', meta_keys=TEST_KEYS)


def upgraded(transform, tmp_path):
    work = Work(ConfigDict(), Origins(), tmp_path / 'cfg.py')
    return upgrade_transform(work, ConfigDict(transform)), [c.old for c in work.changes]


@pytest.mark.parametrize(('old', 'new'), [
    # one scale; the ratio of sides was kept by default
    (dict(type='Resize', img_scale=(8, 4)), dict(type='Resize', scale=(8, 4), keep_ratio=True)),
    (dict(type='Resize', img_scale=(8, 4), keep_ratio=False, bbox_clip_border=False, backend='pillow'),
     dict(type='Resize', scale=(8, 4), keep_ratio=False, clip_object_border=False, backend='pillow')),
    (dict(type='Resize', img_scale=[(8, 4)], keep_ratio=True), dict(type='Resize', scale=(8, 4), keep_ratio=True)),
    # several: between two, which was the default, or one of them
    (dict(type='Resize', img_scale=[(8, 2), (8, 4)]),
     dict(type='RandomResize', scale=[(8, 2), (8, 4)], keep_ratio=True)),
    (dict(type='Resize', img_scale=[(8, 2), (8, 3), (8, 4)], multiscale_mode='value', override=True),
     dict(type='RandomChoiceResize', scales=[(8, 2), (8, 3), (8, 4)], keep_ratio=True)),
    (dict(type='Resize', img_scale=(8, 8), ratio_range=(0.1, 2.0), multiscale_mode='range'),
     dict(type='RandomResize', scale=(8, 8), ratio_range=(0.1, 2.0), keep_ratio=True)),
    # flips
    (dict(type='RandomFlip', flip_ratio=0.5), dict(type='RandomFlip', prob=0.5)),
    (dict(type='RandomFlip', flip_ratio=[0.2, 0.3], direction=['horizontal', 'vertical']),
     dict(type='RandomFlip', prob=[0.2, 0.3], direction=['horizontal', 'vertical'])),
    (dict(type='RandomFlip'), None),
    # (height, width) in 2.x is (width, height); a range of lengths has no sides
    (dict(type='RandomCrop', crop_size=(3, 4)), dict(type='RandomCrop', crop_size=(4, 3))),
    (dict(type='RandomCrop', crop_size=(0.3, 0.4), crop_type='relative_range'),
     dict(type='RandomCrop', crop_size=(0.4, 0.3), crop_type='relative_range')),
    (dict(type='RandomCrop', crop_size=(384, 600), crop_type='absolute_range'),
     dict(type='RandomCrop', crop_size=(384, 600), crop_type='absolute_range')),
    (dict(type='RandomCenterCropPad', crop_size=(3, 4), ratios=(1.0,)),
     dict(type='RandomCenterCropPad', crop_size=(4, 3), ratios=(1.0,))),
    (dict(type='Mosaic', img_scale=(3, 4), min_bbox_size=2), dict(type='Mosaic', img_scale=(4, 3))),
    (dict(type='MixUp', img_scale=(3, 4), skip_filter=False), dict(type='MixUp', img_scale=(4, 3))),
    (dict(type='RandomAffine', border=(-3, -4), max_aspect_ratio=20), dict(type='RandomAffine', border=(-4, -3))),
    (dict(type='Pad', size=(3, 4), pad_val=114), dict(type='Pad', size=(4, 3), pad_val=114)),
    # other names
    (dict(type='RandomShift', shift_ratio=0.5, max_shift_px=32), dict(type='RandomShift', prob=0.5, max_shift_px=32)),
    (dict(type='LoadAnnotations', with_bbox=True, denorm_bbox=True), BOXES),
    (dict(type='LoadImageFromFile', file_client_args=dict(backend='disk')), LOAD),
    (dict(type='LoadImageFromFile', file_client_args=dict(backend='petrel')),
     dict(type='LoadImageFromFile', backend_args=dict(backend='petrel'))),
    (dict(type='AutoAugment', policies=[[dict(type='Resize', img_scale=(8, 4))],
                                        [dict(type='RandomFlip', flip_ratio=1)]]),
     dict(type='RandomChoice', transforms=[[dict(type='Resize', scale=(8, 4), keep_ratio=True)],
                                           [dict(type='RandomFlip', prob=1)]])),
    (dict(type='Albu', transforms=[dict(type='Resize', height=3)], update_pad_shape=False,
          bbox_params=dict(type='BboxParams', label_fields=['gt_labels'])),
     dict(type='Albu', transforms=[dict(type='Resize', height=3)],
          bbox_params=dict(type='BboxParams', label_fields=['gt_bboxes_labels', 'gt_ignore_flags']))),
    # equal in both
    (dict(type='PhotoMetricDistortion', hue_delta=18), dict(type='PhotoMetricDistortion', hue_delta=18)),
    (dict(type='Expand', mean=[1, 2, 3], to_rgb=True), dict(type='Expand', mean=[1, 2, 3], to_rgb=True)),
    (dict(type='MyOwn', img_scale=(3, 4), flip_ratio=1), dict(type='MyOwn', img_scale=(3, 4), flip_ratio=1)),
])
def test_one_transform(tmp_path, old, new):
    assert upgraded(old, tmp_path)[0] == new


def test_what_is_dropped_is_told(tmp_path):
    _, changes = upgraded(dict(type='MixUp', img_scale=(3, 4), skip_filter=False), tmp_path)
    assert changes == ['MixUp.img_scale', 'MixUp.skip_filter']


@pytest.mark.parametrize(('old', 'message'), [
    (dict(type='Resize', img_scale=[(8, 2), (8, 3), (8, 4)]), 'with multiscale_mode=.range. it is two scales; found 3'),
    (dict(type='Resize', img_scale=[(8, 2), (8, 3)], multiscale_mode='values'), "'range' or 'value'; found 'values'"),
])
def test_a_resize_that_contradicts_itself(tmp_path, old, message):
    with pytest.raises(ConfigError, match=message):
        upgraded(old, tmp_path)


# ---- whole pipelines ----

def experiment(train='[]', test='[]', more=''):
    return f"""
norm = {NORM}
train_pipeline = {train}
test_pipeline = {test}
model = dict(type='X', test_cfg=dict(rcnn=dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=50)))
data = dict(samples_per_gpu=1, train=dict(type='CocoDataset', ann_file='a', pipeline=train_pipeline),
            val=dict(type='CocoDataset', ann_file='b', pipeline=test_pipeline),
            test=dict(type='CocoDataset', ann_file='b', pipeline=test_pipeline))
runner = dict(type='EpochBasedRunner', max_epochs=1)
{more}"""


TRAIN = """[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', img_scale=(8, 4)), dict(type='RandomFlip', flip_ratio=0.5), norm,
    dict(type='Pad', size_divisor=32), dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])]"""
VIEWS = """[dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', {}, transforms=[
    dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'), norm, dict(type='Pad', size_divisor=32),
    dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]"""
ONE_VIEW = VIEWS.format('img_scale=(8, 4), flip=False')
RESIZE = dict(type='Resize', scale=(8, 4), keep_ratio=True)
MASKS = dict(**BOXES, with_mask=True)


def test_an_ordinary_experiment(load):
    cfg = load(experiment(TRAIN, ONE_VIEW))
    train = [LOAD, MASKS, RESIZE, dict(type='RandomFlip', prob=0.5), PACK]
    test = [LOAD, RESIZE, MASKS, PACK_TEST]
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline == train
    assert cfg.val_dataloader.dataset.pipeline == cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline == test
    assert cfg.model.data_preprocessor == dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_size_divisor=32, pad_mask=True)
    assert 'tta_pipeline' not in cfg


def test_pipelines_are_separate_objects(load):
    cfg = load(experiment(TRAIN, ONE_VIEW))
    cfg.val_dataloader.dataset.pipeline[1].scale = (1, 1)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == cfg.test_pipeline[1].scale == (8, 4)


def test_several_views_become_a_pipeline_of_their_own(load):
    cfg = load(experiment(TRAIN, VIEWS.format('img_scale=[(8, 4), (6, 3)], flip=True')))
    assert cfg.test_pipeline == [LOAD, RESIZE, MASKS, PACK_TEST]
    assert cfg.tta_pipeline == [LOAD, dict(type='TestTimeAug', transforms=[
        [RESIZE, dict(type='Resize', scale=(6, 3), keep_ratio=True)],
        [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)],
        [MASKS], [dict(type='PackDetInputs', meta_keys=(*TEST_KEYS, 'flip', 'flip_direction'))]])]
    tta_cfg = dict(nms=dict(type='nms', iou_threshold=0.6), max_per_img=50)
    assert cfg.tta_model == dict(type='DetTTAModel', tta_cfg=tta_cfg)
    assert any(c.new == 'tta_pipeline' and '--tta' in c.note for c in cfg.changes)


def test_views_by_a_factor_flip_before_a_padding_whose_offset_flipping_does_not_move(load):
    test = """[dict(type='LoadImageFromFile', to_float32=True), dict(
        type='MultiScaleFlipAug', scale_factor=1.0, flip=True, flip_direction='vertical', transforms=[
            dict(type='Resize'), dict(type='RandomCenterCropPad', test_mode=True), dict(type='RandomFlip'), norm,
            dict(type='Collect', keys=['img'], meta_keys=('filename', 'ori_shape', 'border'))])]"""
    cfg = load(experiment(TRAIN, test))
    pad = dict(type='RandomCenterCropPad', test_mode=True)
    keys = (*TEST_KEYS, 'border')
    load_float = dict(**LOAD, to_float32=True)
    assert cfg.test_pipeline == [load_float, pad, MASKS, dict(type='PackDetInputs', meta_keys=keys)]
    assert cfg.tta_pipeline == [load_float, dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=1.0, direction='vertical'), dict(type='RandomFlip', prob=0.0)], [pad], [MASKS],
        [dict(type='PackDetInputs', meta_keys=(*keys, 'flip', 'flip_direction'))]])]


def test_proposals_are_moved_along_with_the_image(load):
    train = """[dict(type='LoadImageFromFile'), dict(type='LoadProposals', num_max_proposals=9),
        dict(type='LoadAnnotations', with_bbox=True), dict(type='Resize', img_scale=(8, 4)),
        dict(type='RandomFlip', flip_ratio=0.5), norm, dict(type='Collect', keys=['img', 'proposals', 'gt_bboxes'])]"""
    test = """[dict(type='LoadImageFromFile'), dict(type='LoadProposals', num_max_proposals=None),
        dict(type='MultiScaleFlipAug', img_scale=(8, 4), flip=False, transforms=[
            dict(type='Resize', keep_ratio=True), norm, dict(type='ToTensor', keys=['proposals']),
            dict(type='ToDataContainer', fields=[dict(key='proposals', stack=False)]),
            dict(type='Collect', keys=['img', 'proposals'])])]"""
    cfg = load(experiment(train, test))
    assert cfg.train_pipeline == [
        LOAD, dict(type='LoadProposals', num_max_proposals=9), BOXES,
        dict(type='ProposalBroadcaster', transforms=[RESIZE, dict(type='RandomFlip', prob=0.5)]), PACK]
    assert cfg.test_pipeline == [
        LOAD, dict(type='LoadProposals', num_max_proposals=None),
        dict(type='ProposalBroadcaster', transforms=[RESIZE]), PACK_TEST]


def test_padding_of_yolox_stays_and_that_of_an_inner_pipeline_too(load):
    square = dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0)))
    cfg = load(f"""
        data = dict(samples_per_gpu=1, train=dict(
            type='MultiImageMixDataset',
            pipeline=[dict(type='CopyPaste'), {square}, dict(type='DefaultFormatBundle'),
                      dict(type='Collect', keys=['img'])],
            dataset=dict(type='CocoDataset', ann_file='a', pipeline=[dict(type='Pad', size=(3, 4))])))
        model = dict(type='X')
    """)
    dataset = cfg.train_dataloader.dataset
    assert dataset.pipeline == [dict(type='CopyPaste'), square, PACK]
    assert dataset.dataset.pipeline == [dict(type='Pad', size=(4, 3))]
    assert cfg.model.data_preprocessor == dict(type='DetDataPreprocessor')
    assert 'batch_sampler' not in cfg.train_dataloader    # all images are of one size


def test_training_images_of_one_size_are_padded_as_a_batch(load):
    train = TRAIN.replace('size_divisor=32', 'size=(6, 8), pad_val=dict(img=(128, 128, 128))')
    cfg = load(experiment(train, ONE_VIEW))
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.batch_augments == [dict(type='BatchFixedSizePad', size=(6, 8), pad_mask=True)]    # (h, w)
    assert preprocessor.pad_size_divisor == 32 and cfg.train_pipeline[-1] == PACK
    assert any('not with (128, 128, 128) before' in c.note for c in cfg.changes)


def test_test_images_of_one_square_size_are_padded_to_it(load):
    cfg = load(experiment(TRAIN, ONE_VIEW.replace('size_divisor=32', 'size=(64, 64)')))
    assert cfg.model.data_preprocessor.pad_size_divisor == 64


def test_what_differs_between_training_and_test_is_told(load):
    other = ONE_VIEW.replace('norm', "dict(type='Normalize', mean=[0.0], std=[1.0], to_rgb=False)")
    cfg = load(experiment(TRAIN, other.replace('size_divisor=32', 'size_divisor=64')))
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert cfg.model.data_preprocessor.pad_size_divisor == 64
    notes = ' '.join(c.note for c in cfg.changes)
    assert 'a second one is left out' in notes and 'not some to 32' in notes


def test_semantic_maps_and_their_scale(load):
    train = TRAIN.replace("norm,", "norm, dict(type='SegRescale', scale_factor=1 / 8), ") \
        .replace("'gt_masks'", "'gt_masks', 'gt_semantic_seg'")
    cfg = load(experiment(train, ONE_VIEW, "model['roi_head'] = dict(semantic_head=dict(type='FusedSemanticHead'))"))
    assert cfg.model.roi_head.semantic_head.seg_scale_factor == 1 / 8
    assert (cfg.model.data_preprocessor.pad_seg, cfg.model.data_preprocessor.seg_pad_value) == (True, 255)


def test_panoptic_annotations_are_read_for_validation_too(load):
    train = TRAIN.replace("'LoadAnnotations', with_bbox", "'LoadPanopticAnnotations', with_bbox")
    assert load(experiment(train, ONE_VIEW)).test_pipeline[2] == dict(type='LoadPanopticAnnotations')


def test_images_in_bgr_stay_so(load):
    cfg = load(experiment(TRAIN, ONE_VIEW).replace('to_rgb=True', 'to_rgb=False'))
    assert cfg.model.data_preprocessor.bgr_to_rgb is False


def test_a_file_of_data_alone_keeps_the_preprocessor_by_itself(load):
    text = experiment(TRAIN, ONE_VIEW)
    cfg = load('\n'.join(line for line in text.splitlines() if not line.startswith('model')))
    assert cfg.data_preprocessor.pad_size_divisor == 32 and 'model' not in cfg
