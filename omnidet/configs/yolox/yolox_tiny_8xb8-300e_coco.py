_base_ = './yolox_s_8xb8-300e_coco.py'

model = dict(
    data_preprocessor=dict(batch_augments=[
        dict(type='BatchSyncRandomResize', random_size_range=(320, 640), size_divisor=32, interval=10)]),
    backbone=dict(deepen_factor=0.33, widen_factor=0.375),
    neck=dict(in_channels=[96, 192, 384], out_channels=96),
    bbox_head=dict(in_channels=96, feat_channels=96))

# Small models learn less from strong augmentation: no mix-up, and images are not shrunk as far. They are tested at 416.
train_pipeline = _base_.train_pipeline
train_pipeline[1].scaling_ratio_range = (0.5, 1.5)
del train_pipeline[2]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (416, 416)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
