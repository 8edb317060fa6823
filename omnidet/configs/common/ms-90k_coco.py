# 90,000 iterations of COCO's boxes, the shorter side one of six from 640 to 800; images as Pillow decodes and
# resizes them.
_base_ = [
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

backend = 'pillow'
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[0].imdecode_backend = backend
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=[(1333, side) for side in range(640, 801, 32)], keep_ratio=True, backend=backend)
test_pipeline[0].imdecode_backend = backend
test_pipeline[1].backend = backend

train_dataloader = dict(pin_memory=True, sampler=dict(type='InfiniteSampler'), dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(pin_memory=True, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_iter = 90000
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iter, val_interval=10000)
_base_.param_scheduler[0].end = 1000
_base_.param_scheduler[1].update(end=max_iter, by_epoch=False, milestones=[60000, 80000])
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10000))
log_processor = dict(by_epoch=False)
