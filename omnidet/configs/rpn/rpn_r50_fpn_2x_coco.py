_base_ = './rpn_r50_fpn_1x_coco.py'

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs)
_base_.param_scheduler[1].update(end=max_epochs, milestones=[16, 22])
