_base_ = './retinanet_r50_fpn_1x_coco_v1.py'

model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False), style='caffe',
        init_cfg=dict(checkpoint='open-mmlab://detectron/resnet50_caffe')))
