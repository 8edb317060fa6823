_base_ = './solov2_r50_fpn_1x_coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=[(1333, side) for side in range(800, 639, -32)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
_base_.param_scheduler[0].start_factor = 1.0 / 3
_base_.param_scheduler[1].update(end=36, milestones=[27, 33])
