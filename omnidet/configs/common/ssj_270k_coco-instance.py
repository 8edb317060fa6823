# 270,000 iterations of COCO's boxes and masks with standard-scale jitter (arXiv:2012.07177): images at 0.8 to 1.25
# times 1024 x 1024, cut to that; for 32 x 2 images an iteration.
_base_ = [
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
del _base_.train_dataloader.batch_sampler, _base_.auto_scale_lr.enable

image_size = (1024, 1024)
train_pipeline = _base_.train_pipeline
train_pipeline[2:3] = [
    dict(type='RandomResize', scale=image_size, ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='InfiniteSampler'), dataset=dict(pipeline=train_pipeline))

max_iters = 270000
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=10000)
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=4e-5))
_base_.param_scheduler[0].end = 1000
_base_.param_scheduler[1].update(end=max_iters, by_epoch=False, milestones=[243000, 256500, 263250])
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10000))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=64)
