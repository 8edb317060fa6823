# 36 epochs of COCO's boxes (12 of three times the data), the shorter side drawn from 640 to 800.
_base_ = [
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
del _base_.val_evaluator.format_only, _base_.test_evaluator.format_only

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='RandomResize', scale=[(1333, 640), (1333, 800)], keep_ratio=True)
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='RepeatDataset', times=3,
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline)))

_base_.param_scheduler[1].milestones = [9, 11]
