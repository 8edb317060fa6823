# Test-time augmentation: the image mirrored and as it is. Mirroring comes first, for the boxes to find their way back.
tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
tta_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True, backend_args=None),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)],
        [dict(type='RandomCenterCropPad', ratios=None, border=None, mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True,
              test_mode=True, test_pad_mode=['logical_or', 31], test_pad_add_pix=1)],
        [dict(type='LoadAnnotations', with_bbox=True)],
        [dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'flip',
                                               'flip_direction', 'border'))],
    ]),
]
