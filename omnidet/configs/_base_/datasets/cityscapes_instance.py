# Cityscapes' boxes and masks, measured as COCO does and as Cityscapes does.
_base_ = './cityscapes_detection.py'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].with_mask = True
test_pipeline[2].with_mask = True

train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = [
    dict(_base_.val_evaluator, metric=['bbox', 'segm']),
    dict(type='CityScapesMetric', seg_prefix=_base_.data_root + 'gtFine/val',
         outfile_prefix='./work_dirs/cityscapes_metric/instance', backend_args=_base_.backend_args),
]
test_evaluator = val_evaluator
