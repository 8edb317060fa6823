# Cityscapes' boxes, images at 2048 x 1024 and somewhat smaller; an epoch is eight times the data.
_base_ = './coco_detection.py'
del _base_.val_evaluator.format_only, _base_.test_evaluator.format_only

dataset_type = 'CityscapesDataset'
data_root = 'data/cityscapes/'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2] = dict(type='RandomResize', scale=[(2048, 800), (2048, 1024)], keep_ratio=True)
test_pipeline[1].scale = (2048, 1024)

train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=8,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/instancesonly_filtered_gtFine_train.json',
            data_prefix=dict(img='leftImg8bit/train/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=train_pipeline,
            backend_args=_base_.backend_args)))
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instancesonly_filtered_gtFine_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/instancesonly_filtered_gtFine_val.json')
test_evaluator = val_evaluator
