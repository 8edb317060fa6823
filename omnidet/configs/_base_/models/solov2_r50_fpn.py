# SOLOv2 (arXiv:2003.10152): five grids over P2 to P6, whose cells predict classes and the kernels of masks.
model = dict(
    type='SOLOv2',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_mask=True, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1, style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, start_level=0, num_outs=5),
    mask_head=dict(
        type='SOLOV2Head', num_classes=80, in_channels=256, stacked_convs=4, feat_channels=512,
        strides=[8, 8, 16, 32, 32], num_grids=[40, 36, 24, 16, 12], cls_down_index=0, pos_scale=0.2,
        scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        mask_feature_head=dict(
            start_level=0, end_level=3, feat_channels=128, out_channels=256, mask_stride=4,
            norm_cfg=dict(type='GN', num_groups=32, requires_grad=True)),
        loss_mask=dict(type='DiceLoss', use_sigmoid=True, loss_weight=3.0),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)),
    test_cfg=dict(
        nms_pre=500, score_thr=0.1, mask_thr=0.5, filter_thr=0.05, kernel='gaussian', sigma=2.0, max_per_img=100))
