# From weights that know COCO; 8 x 1 images an iteration, and eight times the data an epoch.
_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/cityscapes_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(init_cfg=None),
    roi_head=dict(
        bbox_head=dict(num_classes=8, loss_bbox=dict(type='SmoothL1Loss', beta=1.0)),
        mask_head=dict(num_classes=8)))

train_cfg = dict(max_epochs=8)
_base_.param_scheduler[1].update(end=8, milestones=[7])
optim_wrapper = dict(optimizer=dict(lr=0.01))
load_from = (
    'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_1x_coco/'
    'mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth')
