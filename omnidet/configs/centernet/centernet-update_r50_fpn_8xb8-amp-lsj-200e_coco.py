_base_ = ['../_base_/models/centernet-update_r50_fpn.py', '../common/lsj-200e_coco-detection.py']

image_size = (1024, 1024)
batch_augments = [dict(type='BatchFixedSizePad', size=image_size)]
model = dict(data_preprocessor=dict(batch_augments=batch_augments))

train_dataloader = dict(batch_size=8, num_workers=4)
optim_wrapper = dict(
    type='AmpOptimWrapper', optimizer=dict(lr=0.01 * 4, weight_decay=4e-5), paramwise_cfg=dict(norm_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.00025, by_epoch=False, begin=0, end=4000),
    dict(type='MultiStepLR', begin=0, end=25, by_epoch=True, milestones=[22, 24], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=64)
