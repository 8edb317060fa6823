_base_ = './rtmdet_x_8xb32-300e_coco.py'

model = dict(
    backbone=dict(arch='P6', out_indices=(2, 3, 4, 5)),
    neck=dict(in_channels=[320, 640, 960, 1280]),
    bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64])))

# Everything at twice the size: a pair of numbers in a pipeline is a size, unless it is a ratio.
train_pipeline, train_pipeline_stage2, test_pipeline = [
    [{key: (2 * value[0], 2 * value[1]) if key in ('img_scale', 'scale', 'crop_size', 'size') else value
      for key, value in transform.items()} for transform in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.train_pipeline_stage2, _base_.test_pipeline)]
train_dataloader = dict(batch_size=8, num_workers=20, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=20, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
_base_.custom_hooks[1].switch_pipeline = train_pipeline_stage2

img_scales = [(1280, 1280), (640, 640), (1920, 1920)]
_base_.tta_pipeline[1].transforms[0] = [dict(type='Resize', scale=s, keep_ratio=True) for s in img_scales]
_base_.tta_pipeline[1].transforms[2][0].size = (1920, 1920)

base_lr = 0.004 * 32 / 256
optim_wrapper = dict(optimizer=dict(lr=base_lr))
_base_.param_scheduler[1].eta_min = base_lr * 0.05
