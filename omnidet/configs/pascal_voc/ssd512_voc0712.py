_base_ = './ssd300_voc0712.py'

input_size = 512
model = dict(
    neck=dict(
        out_channels=(512, 1024, 512, 256, 256, 256, 256), level_strides=(2, 2, 2, 2, 1),
        level_paddings=(1, 1, 1, 1, 1), last_kernel_size=4),
    bbox_head=dict(
        in_channels=(512, 1024, 512, 256, 256, 256, 256),
        anchor_generator=dict(
            input_size=input_size, basesize_ratio_range=(0.15, 0.9), strides=[8, 16, 32, 64, 128, 256, 512],
            ratios=[[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]])))

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[4].scale = (input_size, input_size)
test_pipeline[1].scale = (input_size, input_size)
data = _base_.train_dataloader.dataset.dataset.datasets
for part in data:
    part.pipeline = train_pipeline
train_dataloader = dict(dataset=dict(dataset=dict(datasets=data)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
del data, part
