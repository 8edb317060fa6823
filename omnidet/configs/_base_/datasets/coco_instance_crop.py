# COCO's boxes and masks; the short side at 480 to 800, of the whole image or of a crop of it, as DETR was trained.
_base_ = './coco_instance.py'

resize = dict(type='RandomChoiceResize', scales=[(side, 1333) for side in range(480, 801, 32)], keep_ratio=True)
longest = 1333    # of what is cropped
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[
        [resize],
        [
            dict(type='RandomChoiceResize', scales=[(side, longest) for side in (400, 500, 600)], keep_ratio=True),
            dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
            resize,
        ],
    ]),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
del resize, longest
