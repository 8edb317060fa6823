_base_ = [
    '../_base_/models/ssd300.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/schedule_2x.py',
    '../_base_/default_runtime.py',
]

input_size = 300
model = dict(bbox_head=dict(num_classes=20, anchor_generator=dict(basesize_ratio_range=(0.2, 0.9))))

# Small objects come from images that are put on a larger canvas, large ones from crops.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Expand', mean=_base_.model.data_preprocessor.mean, to_rgb=_base_.model.data_preprocessor.bgr_to_rgb,
         ratio_range=(1, 4)),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    dict(type='Resize', scale=(input_size, input_size), keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion', brightness_delta=32, contrast_range=(0.5, 1.5), saturation_range=(0.5, 1.5),
         hue_delta=18),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
del test_pipeline[0].backend_args
test_pipeline[1].update(scale=(input_size, input_size), keep_ratio=False)

data = _base_.train_dataloader.dataset.dataset.datasets
for part in data:
    del part.filter_cfg.bbox_min_size, part.backend_args
    part.pipeline = train_pipeline
train_dataloader = dict(batch_size=8, num_workers=3, dataset=dict(times=10, dataset=dict(datasets=data)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
del data, part

_base_.param_scheduler[1].milestones = [16, 20]
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=5e-4))
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW'),
]
auto_scale_lr = dict(base_batch_size=64)
