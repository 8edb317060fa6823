# 100 epochs of COCO's boxes (25 of four times the data) with large-scale jitter (arXiv:2012.07177): images at 0.1 to
# 2 times 1024 x 1024, cut to that; for 8 x 8 images an iteration.
_base_ = [
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
del _base_.train_dataloader.batch_sampler, _base_.auto_scale_lr.enable

image_size = (1024, 1024)
train_pipeline = _base_.train_pipeline
train_pipeline[2:3] = [
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='RepeatDataset', times=4,
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)))

max_epochs = 25
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=4e-5))
_base_.param_scheduler[0].start_factor = 0.067
_base_.param_scheduler[1].update(end=max_epochs, milestones=[22, 24])
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=64)
