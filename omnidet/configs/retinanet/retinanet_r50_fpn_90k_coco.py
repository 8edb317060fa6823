_base_ = './retinanet_r50_fpn_1x_coco.py'

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=90000, val_interval=10000)
_base_.param_scheduler[1].update(end=90000, by_epoch=False, milestones=[60000, 80000])
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10000))
log_processor = dict(by_epoch=False)
