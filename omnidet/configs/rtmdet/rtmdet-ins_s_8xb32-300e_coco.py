_base_ = './rtmdet-ins_l_8xb32-300e_coco.py'

checkpoint = 'https://download.openmmlab.com/mmdetection/v3.0/rtmdet/cspnext_rsb_pretrain/cspnext-s_imagenet_600e.pth'
model = dict(
    backbone=dict(
        deepen_factor=0.33, widen_factor=0.5,
        init_cfg=dict(type='Pretrained', prefix='backbone.', checkpoint=checkpoint)),
    neck=dict(in_channels=[128, 256, 512], out_channels=128, num_csp_blocks=1),
    bbox_head=dict(in_channels=128, feat_channels=128))

# Small models learn little from tiny objects: images are not shrunk as far.
train_pipeline = _base_.train_pipeline
train_pipeline[3].ratio_range = (0.5, 2.0)
train_pipeline_stage2 = _base_.train_pipeline_stage2
train_pipeline_stage2[2].ratio_range = (0.5, 2.0)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
_base_.custom_hooks[1].switch_pipeline = train_pipeline_stage2
