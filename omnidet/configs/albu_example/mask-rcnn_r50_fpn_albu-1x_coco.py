# Transforms of Albumentations (arXiv:1809.06839) among our own.
_base_ = '../mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

albu_train_transforms = [
    dict(type='ShiftScaleRotate', shift_limit=0.0625, scale_limit=0.0, rotate_limit=0, interpolation=1, p=0.5),
    dict(type='RandomBrightnessContrast', brightness_limit=[0.1, 0.3], contrast_limit=[0.1, 0.3], p=0.2),
    dict(type='OneOf', p=0.1, transforms=[
        dict(type='RGBShift', r_shift_limit=10, g_shift_limit=10, b_shift_limit=10, p=1.0),
        dict(type='HueSaturationValue', hue_shift_limit=20, sat_shift_limit=30, val_shift_limit=20, p=1.0),
    ]),
    dict(type='JpegCompression', quality_lower=85, quality_upper=95, p=0.2),
    dict(type='ChannelShuffle', p=0.1),
    dict(type='OneOf', p=0.1, transforms=[
        dict(type='Blur', blur_limit=3, p=1.0),
        dict(type='MedianBlur', blur_limit=3, p=1.0),
    ]),
]
train_pipeline = _base_.train_pipeline
train_pipeline.insert(3, dict(
    type='Albu',
    transforms=albu_train_transforms,
    bbox_params=dict(
        type='BboxParams', format='pascal_voc', label_fields=['gt_bboxes_labels', 'gt_ignore_flags'],
        min_visibility=0.0, filter_lost_elements=True),
    keymap=dict(img='image', gt_masks='masks', gt_bboxes='bboxes'),    # our names to theirs
    skip_img_without_anno=True))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
