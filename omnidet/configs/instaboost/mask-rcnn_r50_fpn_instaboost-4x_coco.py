# InstaBoost (arXiv:1908.07801): objects are cut out and pasted elsewhere in their own image. It reads annotations as
# they are, so it comes before they are loaded.
_base_ = '../mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline.insert(1, dict(
    type='InstaBoost', action_candidate=('normal', 'horizontal', 'skip'), action_prob=(1, 0, 0), scale=(0.8, 1.2),
    dx=15, dy=15, theta=(-1, 1), color_prob=0.5, hflag=False, aug_ratio=0.5))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 48
train_cfg = dict(max_epochs=max_epochs)
_base_.param_scheduler[1].update(end=max_epochs, milestones=[32, 44])
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
