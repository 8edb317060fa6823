_base_ = [
    '../_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/deepfashion.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=15), mask_head=dict(num_classes=15)))

max_epochs = 15
train_cfg = dict(max_epochs=max_epochs)
_base_.param_scheduler[1].end = max_epochs
