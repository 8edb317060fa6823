_base_ = [
    '../_base_/models/mask-rcnn_swin-t_fpn.py',
    '../_base_/datasets/coco_instance_crop.py',
    '../_base_/schedules/swin_1x.py',
    '../_base_/default_runtime.py',
]

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
_base_.param_scheduler[1].update(end=max_epochs, milestones=[27, 33])
