_base_ = [
    '../_base_/models/mask2former_r50.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/mask2former_50e.py',
    '../_base_/default_runtime.py',
]

train_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True, backend_args=_base_.backend_args),
    dict(type='LoadPanopticAnnotations', with_bbox=True, with_mask=True, with_seg=True,
         backend_args=_base_.backend_args),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=_base_.image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=_base_.image_size, crop_type='absolute', recompute_bbox=True,
         allow_negative_crop=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

val_evaluator = [
    _base_.val_evaluator,
    dict(type='CocoMetric', ann_file=_base_.data_root + 'annotations/instances_val2017.json', metric=['bbox', 'segm'],
         backend_args=_base_.backend_args),
]
test_evaluator = val_evaluator

default_hooks = dict(
    checkpoint=dict(by_epoch=False, save_last=True, max_keep_ckpts=3, interval=_base_.interval))
log_processor = dict(by_epoch=False)
