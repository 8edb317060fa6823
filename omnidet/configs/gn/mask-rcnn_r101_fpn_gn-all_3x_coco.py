_base_ = './mask-rcnn_r101_fpn_gn-all_2x_coco.py'

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
_base_.param_scheduler[1].update(end=max_epochs, milestones=[28, 34])
