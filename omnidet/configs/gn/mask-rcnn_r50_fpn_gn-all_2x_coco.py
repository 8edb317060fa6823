_base_ = './mask-rcnn_r50-contrib_fpn_gn-all_2x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(init_cfg=dict(checkpoint='open-mmlab://detectron/resnet50_gn')))
