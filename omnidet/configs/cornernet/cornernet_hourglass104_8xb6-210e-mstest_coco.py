# CornerNet (arXiv:1808.01244): an object is a pair of corners with like embeddings. 210 epochs on parts of 511 x 511.
_base_ = ['../_base_/datasets/coco_detection.py', '../_base_/default_runtime.py']

data_preprocessor = dict(
    type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
model = dict(
    type='CornerNet',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='HourglassNet', num_stacks=2, downsample_times=5, stage_channels=[256, 256, 384, 384, 384, 512],
        stage_blocks=[2, 2, 2, 2, 2, 4], norm_cfg=dict(type='BN', requires_grad=True)),
    neck=None,
    bbox_head=dict(
        type='CornerHead', num_classes=80, in_channels=256, num_feat_levels=2, corner_emb_channels=1,
        loss_heatmap=dict(type='GaussianFocalLoss', alpha=2.0, gamma=4.0, loss_weight=1),
        loss_embedding=dict(type='AssociativeEmbeddingLoss', pull_weight=0.1, push_weight=0.1),
        loss_offset=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1)),
    train_cfg=None,
    test_cfg=dict(
        corner_topk=100, local_maximum_kernel=3, distance_threshold=0.5, score_thr=0.05, max_per_img=100,
        nms=dict(type='soft_nms', iou_threshold=0.5, method='gaussian')))

# padding has the mean colour
padding = dict(
    type='RandomCenterCropPad', mean=data_preprocessor['mean'], std=data_preprocessor['std'],
    to_rgb=data_preprocessor['bgr_to_rgb'])
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PhotoMetricDistortion', brightness_delta=32, contrast_range=(0.5, 1.5), saturation_range=(0.5, 1.5),
         hue_delta=18),
    dict(**padding, crop_size=(511, 511), ratios=(0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3), test_mode=False,
         test_pad_mode=None),
    dict(type='Resize', scale=(511, 511), keep_ratio=False),    # what was cut has other sizes
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
load = dict(type='LoadImageFromFile', to_float32=True, backend_args=_base_.backend_args)
annotations = dict(type='LoadAnnotations', with_bbox=True)
padded = dict(    # images keep their size
    **padding, crop_size=None, ratios=None, border=None, test_mode=True, test_pad_mode=['logical_or', 127])
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape')
test_pipeline = [load, padded, annotations, dict(type='PackDetInputs', meta_keys=(*meta_keys, 'border'))]

# Test-time augmentation: the image mirrored and as it is. Mirroring comes first, for the boxes to find their way back.
tta_model = dict(
    type='DetTTAModel',
    tta_cfg=dict(nms=dict(type='soft_nms', iou_threshold=0.5, method='gaussian'), max_per_img=100))
tta_pipeline = [
    load,
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)],
        [padded],
        [annotations],
        [dict(type='PackDetInputs', meta_keys=(*meta_keys, 'flip', 'flip_direction', 'border'))],
    ]),
]
del padding, load, annotations, padded, meta_keys

train_dataloader = dict(batch_size=6, num_workers=3, batch_sampler=None, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 210
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='Adam', lr=0.0005), clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[180], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=48)
