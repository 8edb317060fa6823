# With what made FCOS better after its paper: points near the centre alone, distances in strides, GIoU.
_base_ = './fcos_r50-caffe_fpn_gn-head_1x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675]),
    backbone=dict(init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet50_caffe')),
    bbox_head=dict(
        norm_on_bbox=True, centerness_on_reg=True, dcn_on_last_conv=False, center_sampling=True, conv_bias=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0)),
    test_cfg=dict(nms=dict(iou_threshold=0.6)))

_base_.param_scheduler[0] = dict(type='LinearLR', start_factor=1.0 / 3.0, by_epoch=False, begin=0, end=500)
optim_wrapper = dict(clip_grad=None)
