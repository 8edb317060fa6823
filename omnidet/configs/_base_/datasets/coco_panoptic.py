# COCO's panoptic segments, images at 1333 x 800.
_base_ = './coco_detection.py'

dataset_type = 'CocoPanopticDataset'
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1] = test_pipeline[2] = dict(type='LoadPanopticAnnotations', backend_args=_base_.backend_args)

train_dataloader = dict(dataset=dict(
    type=dataset_type, ann_file='annotations/panoptic_train2017.json',
    data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(
    type=dataset_type, ann_file='annotations/panoptic_val2017.json',
    data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'), pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True, type='CocoPanopticMetric', ann_file=_base_.data_root + 'annotations/panoptic_val2017.json',
    seg_prefix=_base_.data_root + 'annotations/panoptic_val2017/', backend_args=_base_.backend_args)
test_evaluator = val_evaluator
