# RTMDet-l on Swin-B (arXiv:2103.14030), trained on ImageNet-22k.
_base_ = './rtmdet_l_8xb32-300e_coco.py'

norm_cfg = dict(type='GN', num_groups=32)
checkpoint = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window12_384_22k.pth'
model = dict(
    type='RTMDet',
    data_preprocessor=dict(
        _delete_=True, type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, batch_augments=None),
    backbone=dict(
        _delete_=True, type='SwinTransformer', pretrain_img_size=384, embed_dims=128, depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32], window_size=12, mlp_ratio=4, qkv_bias=True, qk_scale=None, drop_rate=0.0,
        attn_drop_rate=0.0, drop_path_rate=0.3, patch_norm=True, out_indices=(1, 2, 3), with_cp=True,
        convert_weights=True, init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(in_channels=[256, 512, 1024], norm_cfg=norm_cfg),
    bbox_head=dict(norm_cfg=norm_cfg))

max_epochs = 100
stage2_num_epochs = 10
interval = 10
base_lr = 0.001
switch_epoch = max_epochs - stage2_num_epochs
train_cfg = dict(max_epochs=max_epochs, val_interval=interval, dynamic_intervals=[(switch_epoch, 1)])
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0e-5, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', eta_min=base_lr * 0.05, begin=max_epochs // 2, end=max_epochs,
         T_max=max_epochs // 2, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49),
    dict(type='PipelineSwitchHook', switch_epoch=switch_epoch, switch_pipeline=_base_.train_pipeline_stage2),
]
del switch_epoch
