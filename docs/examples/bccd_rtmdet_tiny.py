_base_ = 'rtmdet/rtmdet_tiny'

data_root, size = 'data/bccd/', (320, 320)
classes = dict(classes=('RBC', 'WBC', 'Platelets'))
bn = dict(type='BN')
model = dict(
    backbone=dict(norm_cfg=bn, init_cfg=None), neck=dict(norm_cfg=bn), bbox_head=dict(norm_cfg=bn, num_classes=3))

load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
pad = dict(type='Pad', size=size, pad_val=dict(img=(114, 114, 114)))
augment = [dict(type='RandomCrop', crop_size=size), dict(type='YOLOXHSVRandomAug'), dict(type='RandomFlip', prob=0.5),
           pad, dict(type='PackDetInputs')]
resize = dict(type='RandomResize', ratio_range=(0.5, 2.0), keep_ratio=True)
mosaic = dict(type='CachedMosaic', img_scale=size, pad_val=114.0, max_cached_images=20, random_pop=False)
train_pipeline = [*load, mosaic, dict(resize, scale=(640, 640)), *augment]
train_pipeline_stage2 = [*load, dict(resize, scale=size), *augment]
test_pipeline = [load[0], dict(type='Resize', scale=size, keep_ratio=True), pad, load[1], dict(
    type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]

train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(
    data_root=data_root, ann_file='trainval.json', data_prefix=dict(img='JPEGImages/'), metainfo=classes,
    pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(
    data_root=data_root, ann_file='test.json', data_prefix=dict(img='JPEGImages/'), metainfo=classes,
    pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'test.json', classwise=True)
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=40, val_interval=40, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(lr=0.001))    # AdamW, weight decay 0.05, none on norms and biases
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=5e-5, begin=20, end=40, T_max=20, by_epoch=True, convert_to_iter_based=True)]
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49),
    dict(type='PipelineSwitchHook', switch_epoch=30, switch_pipeline=train_pipeline_stage2)]
