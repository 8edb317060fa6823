_base_ = './mask2former_r50_8xb2-lsj-50e_coco-panoptic.py'

num_stuff_classes = 0
num_classes = 80
batch_augments = [
    dict(type='BatchFixedSizePad', size=_base_.image_size, img_pad_value=0, pad_mask=True, mask_pad_value=0,
         pad_seg=False),
]
data_preprocessor = dict(pad_seg=False, batch_augments=batch_augments)
model = dict(
    data_preprocessor=data_preprocessor,
    panoptic_head=dict(num_stuff_classes=0, loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])),
    panoptic_fusion_head=dict(num_stuff_classes=0),
    test_cfg=dict(panoptic_on=False))

dataset_type = 'CocoDataset'
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1] = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline[3].resize_type = 'Resize'
train_pipeline.insert(5, dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True))
test_pipeline[0].to_float32 = True
test_pipeline[2] = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)

train_dataloader = dict(dataset=dict(
    type=dataset_type, ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017/'),
    pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(
    type=dataset_type, ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017/'),
    pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True, type='CocoMetric', ann_file=_base_.data_root + 'annotations/instances_val2017.json',
    metric=['bbox', 'segm'], format_only=False, backend_args=_base_.backend_args)
test_evaluator = val_evaluator
