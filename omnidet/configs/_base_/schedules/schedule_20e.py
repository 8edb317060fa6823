# 20 epochs of SGD, the rate divided by ten after epochs 16 and 19.
_base_ = './schedule_1x.py'

train_cfg = dict(max_epochs=20)
_base_.param_scheduler[1].update(end=20, milestones=[16, 19])
