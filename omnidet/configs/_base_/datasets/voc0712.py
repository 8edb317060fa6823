# Pascal VOC: trained on 2007 and 2012 together, three times an epoch, tested on 2007; images at 1000 x 600.
_base_ = './coco_detection.py'

dataset_type = 'VOCDataset'
data_root = 'data/VOCdevkit/'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = (1000, 600)
test_pipeline[1].scale = (1000, 600)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=3,
        dataset=dict(
            type='ConcatDataset',
            ignore_keys=['dataset_type'],    # VOC2007 here and VOC2012 there
            datasets=[
                dict(
                    type=dataset_type,
                    data_root=data_root,
                    ann_file=f'{year}/ImageSets/Main/trainval.txt',
                    data_prefix=dict(sub_data_root=f'{year}/'),
                    filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
                    pipeline=train_pipeline,
                    backend_args=_base_.backend_args)
                for year in ('VOC2007', 'VOC2012')])))
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='VOC2007/ImageSets/Main/test.txt',
        data_prefix=dict(_delete_=True, sub_data_root='VOC2007/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# The challenge of 2007 measured precision at 11 values of recall, that of 2012 the whole area.
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='11points')
test_evaluator = val_evaluator
