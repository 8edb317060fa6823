# 24 epochs of SGD, the rate divided by ten after epochs 16 and 22.
_base_ = './schedule_1x.py'

train_cfg = dict(max_epochs=24)
_base_.param_scheduler[1].update(end=24, milestones=[16, 22])
