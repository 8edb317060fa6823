# The backbone as Caffe and Detectron2 have it: strides in the 1 x 1 convolutions, BGR, norms that are not trained.
_base_ = './fast-rcnn_r50_fpn_1x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False), style='caffe',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet50_caffe')))
