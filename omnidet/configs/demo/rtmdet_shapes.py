# What `omnidet demo` trains: RTMDet-tiny from scratch on rendered shapes, small enough for two cores and three minutes.
# It is written as a config for data of one's own would be: a base, the classes, the data, and what is to be different.
_base_ = '../rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

classes = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
img_scale = (160, 160)
max_epochs = 16

model = dict(
    backbone=dict(init_cfg=None),    # no weights to download
    bbox_head=dict(num_classes=6))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

data = dict(type='CocoDataset', data_root='omnidet_demo/data/', metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=8, num_workers=1, batch_sampler=None, pin_memory=False,
    dataset=dict(_delete_=True, **data, ann_file='annotations/train.json', data_prefix=dict(img='train/'),
                 filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16, num_workers=1,
    dataset=dict(_delete_=True, **data, ann_file='annotations/val.json', data_prefix=dict(img='val/'), test_mode=True,
                 pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='omnidet_demo/data/annotations/val.json', classwise=True)
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs // 4, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=max_epochs // 2, begin=max_epochs // 2, end=max_epochs, eta_min=1e-4,
         by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_epochs, max_keep_ckpts=1))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.002, gamma=200, update_buffers=True, priority=49),
]
