_base_ = './mask-rcnn_r50_fpn_1x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], bgr_to_rgb=False),
    backbone=dict(
        type='ResNeXt', depth=101, groups=32, base_width=8, norm_cfg=dict(requires_grad=False),
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnext101_32x8d')))

train_pipeline = _base_.train_pipeline
train_pipeline[1].poly2mask = False
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=[(1333, side) for side in range(640, 801, 32)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
