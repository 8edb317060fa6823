_base_ = [
    '../_base_/models/ssd300.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_2x.py',
    '../_base_/default_runtime.py',
]

input_size = 300
images = _base_.model.data_preprocessor

# Small objects come from images that are put on a larger canvas, large ones from crops.
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='Expand', mean=images.mean, to_rgb=images.bgr_to_rgb, ratio_range=(1, 4)),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    dict(type='Resize', scale=(input_size, input_size), keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion', brightness_delta=32, contrast_range=(0.5, 1.5), saturation_range=(0.5, 1.5),
         hue_delta=18),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(input_size, input_size), keep_ratio=False)

dataset = _base_.train_dataloader.dataset
dataset.pipeline = train_pipeline
train_dataloader = dict(
    batch_size=8, batch_sampler=None,
    dataset=dict(_delete_=True, type='RepeatDataset', times=5, dataset=dataset))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
del images, dataset

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=2e-3, momentum=0.9, weight_decay=5e-4))
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW'),
]
auto_scale_lr = dict(base_batch_size=64)
