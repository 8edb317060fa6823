_base_ = './rtmdet-ins_s_8xb32-300e_coco.py'

checkpoint = 'https://download.openmmlab.com/mmdetection/v3.0/rtmdet/cspnext_rsb_pretrain/cspnext-tiny_imagenet_600e.pth'
model = dict(
    backbone=dict(deepen_factor=0.167, widen_factor=0.375, init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(in_channels=[96, 192, 384], out_channels=96),
    bbox_head=dict(in_channels=96, feat_channels=96))

# Smaller caches of images to mix, mix-up for every second image only, and crops that keep the boxes as they were.
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(max_cached_images=20, random_pop=False)
train_pipeline[4] = dict(type='RandomCrop', crop_size=(640, 640))
train_pipeline[8].update(max_cached_images=10, random_pop=False, prob=0.5)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
