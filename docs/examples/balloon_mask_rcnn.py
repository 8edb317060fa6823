_base_ = 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco'

data_root, size, width = 'data/balloon/', (640, 480), 128
weights = dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/mobilenet_v2-b0353104.pth')
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(1, 2, 4, 6), frozen_stages=1, norm_eval=True,
                  init_cfg=weights),
    neck=dict(in_channels=[24, 32, 96, 320], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=512, num_classes=1),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_classes=1)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=500), rcnn=dict(sampler=dict(num=128))))

load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
train_pipeline = [*load, dict(type='RandomResize', scale=size, ratio_range=(0.7, 1.3), keep_ratio=True),
                  dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_pipeline = [load[0], dict(type='Resize', scale=size, keep_ratio=True), load[1], dict(
    type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]

classes = dict(classes=('balloon',))
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(
    data_root=data_root, ann_file='train.json', data_prefix=dict(img='train/'), metainfo=classes,
    pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=1, dataset=dict(
    data_root=data_root, ann_file='val.json', data_prefix=dict(img='val/'), metainfo=classes,
    pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=20, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='MultiStepLR', begin=0, end=20, by_epoch=True, milestones=[14, 18], gamma=0.1)]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1, save_best='coco/segm_mAP'))
