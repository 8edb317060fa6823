# FCOS (arXiv:1904.01355): a point at each cell of P3 to P7 regresses the distances to the sides of its box.
_base_ = ['../_base_/models/fcos_r50_fpn.py', '../_base_/datasets/coco_detection.py',
          '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py']

# The backbone as Detectron has it: strides in the 1 x 1 convolutions, BGR, norms that are not trained.
model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False), style='caffe',
        init_cfg=dict(checkpoint='open-mmlab://detectron/resnet50_caffe')))

_base_.param_scheduler[0] = dict(type='ConstantLR', factor=1.0 / 3, by_epoch=False, begin=0, end=500)
optim_wrapper = dict(
    optimizer=dict(lr=0.01), paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=35, norm_type=2))
