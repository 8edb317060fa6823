_base_ = 'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance'

data_root, size, width = 'data/balloon/', (640, 480), 96
weights = dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/mobilenet_v2-b0353104.pth')
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(1, 2, 4, 6), frozen_stages=1, norm_eval=True,
                  init_cfg=weights),
    neck=dict(in_channels=[24, 32, 96, 320], out_channels=width),
    bbox_head=dict(in_channels=width, feat_channels=width, stacked_convs=2, num_classes=1),
    mask_head=dict(mask_feature_head=dict(in_channels=width, feat_channels=64, num_stacked_convs=2)))

load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
train_pipeline = [*load, dict(type='RandomResize', scale=size, ratio_range=(0.7, 1.3), keep_ratio=True),
                  dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_pipeline = [load[0], dict(type='Resize', scale=size, keep_ratio=True), load[1], dict(
    type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]

classes = dict(classes=('balloon',))
train_dataloader = dict(batch_size=2, num_workers=1, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
                        dataset=dict(data_root=data_root, ann_file='train.json', data_prefix=dict(img='train/'),
                                     metainfo=classes, pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=1, dataset=dict(
    data_root=data_root, ann_file='val.json', data_prefix=dict(img='val/'), metainfo=classes,
    pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=24, val_interval=6)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[18, 22], gamma=0.1)]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(
    by_epoch=True, interval=6, max_keep_ckpts=1, save_best='coco/segm_mAP'))
log_processor = dict(by_epoch=True)
