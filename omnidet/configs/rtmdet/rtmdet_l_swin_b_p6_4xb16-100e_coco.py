# A level more, and images of 1280 px.
_base_ = './rtmdet_l_swin_b_4xb32-100e_coco.py'

model = dict(
    backbone=dict(
        depths=[2, 2, 18, 2, 1], num_heads=[4, 8, 16, 32, 64], strides=(4, 2, 2, 2, 2), out_indices=(1, 2, 3, 4)),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
    bbox_head=dict(anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32, 64])))

load = dict(type='LoadImageFromFile', backend_args=_base_.backend_args)
boxes = dict(type='LoadAnnotations', with_bbox=True)
pad = dict(type='Pad', size=(1280, 1280), pad_val=dict(img=(114, 114, 114)))
crop = [
    dict(type='RandomCrop', crop_size=(1280, 1280)),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    pad,
]
train_pipeline = [
    load,
    boxes,
    dict(type='CachedMosaic', img_scale=(1280, 1280), pad_val=114.0),
    dict(type='RandomResize', scale=(2560, 2560), ratio_range=(0.1, 2.0), keep_ratio=True),
    *crop,
    dict(type='CachedMixUp', img_scale=(1280, 1280), ratio_range=(1.0, 1.0), max_cached_images=20,
         pad_val=(114, 114, 114)),
    dict(type='PackDetInputs'),
]
train_pipeline_stage2 = [
    load,
    boxes,
    dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.1, 2.0), keep_ratio=True),
    *crop,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load,
    dict(type='Resize', scale=(1280, 1280), keep_ratio=True),
    pad,
    boxes,
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=16, num_workers=20, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=20, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 100
stage2_num_epochs = 10
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49),
    dict(type='PipelineSwitchHook', switch_epoch=max_epochs - stage2_num_epochs,
         switch_pipeline=train_pipeline_stage2),
]

# A flip comes before the padding, or it could not be undone.
img_scales = [(1280, 1280), (640, 640), (1920, 1920)]
tta_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=s, keep_ratio=True) for s in img_scales],
            [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)],
            [dict(type='Pad', size=(1920, 1920), pad_val=dict(img=(114, 114, 114)))],
            [boxes],
            [dict(type='PackDetInputs', meta_keys=(
                'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction'))],
        ]),
]
del load, boxes, pad, crop
