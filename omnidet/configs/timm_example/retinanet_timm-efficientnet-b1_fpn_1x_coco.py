# A backbone of timm: any of its models that gives feature maps, with its own weights.
_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.TIMMBackbone', model_name='efficientnet_b1', features_only=True,
        pretrained=True, out_indices=(1, 2, 3, 4)),
    neck=dict(in_channels=[24, 40, 112, 320]))

optim_wrapper = dict(optimizer=dict(lr=0.01))
