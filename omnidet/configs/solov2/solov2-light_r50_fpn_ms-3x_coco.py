# A light head on images of at most 768 x 512: two convolutions of half the channels, and smaller objects on each grid.
_base_ = './solov2_r50_fpn_1x_coco.py'

model = dict(
    mask_head=dict(
        stacked_convs=2, feat_channels=256, mask_feature_head=dict(out_channels=128),
        scale_ranges=((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))))

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=[(768, side) for side in range(512, 351, -32)], keep_ratio=True)
test_pipeline[1].scale = (448, 768)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 36
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
_base_.param_scheduler[0].start_factor = 1.0 / 3
_base_.param_scheduler[1].update(end=36, milestones=[27, 33])
