_base_ = './mask-rcnn_r50-swav-pre_fpn_1x_coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2].update(type='RandomResize', scale=[(1333, 640), (1333, 800)])
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=24)
_base_.param_scheduler[1].update(end=24, milestones=[16, 22])
