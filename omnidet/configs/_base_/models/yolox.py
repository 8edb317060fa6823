# YOLOX-s (arXiv:2107.08430): CSPDarknet, a path-aggregation pyramid, decoupled towers without anchors, SimOTA.
norm = dict(type='BN', momentum=0.03, eps=0.001)
model = dict(
    type='YOLOX',
    data_preprocessor=dict(
        type='DetDataPreprocessor', pad_size_divisor=32,
        batch_augments=[
            dict(type='BatchSyncRandomResize', random_size_range=(480, 800), size_divisor=32, interval=10)]),
    backbone=dict(
        type='CSPDarknet', deepen_factor=0.33, widen_factor=0.5, out_indices=(2, 3, 4), use_depthwise=False,
        spp_kernal_sizes=(5, 9, 13), norm_cfg=norm, act_cfg=dict(type='Swish')),
    neck=dict(
        type='YOLOXPAFPN', in_channels=[128, 256, 512], out_channels=128, num_csp_blocks=1, use_depthwise=False,
        upsample_cfg=dict(scale_factor=2, mode='nearest'), norm_cfg=norm, act_cfg=dict(type='Swish')),
    bbox_head=dict(
        type='YOLOXHead', num_classes=80, in_channels=128, feat_channels=128, stacked_convs=2, strides=(8, 16, 32),
        use_depthwise=False, norm_cfg=norm, act_cfg=dict(type='Swish'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
        loss_bbox=dict(type='IoULoss', mode='square', eps=1e-16, reduction='sum', loss_weight=5.0),
        loss_obj=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0),
        loss_l1=dict(type='L1Loss', reduction='sum', loss_weight=1.0)),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)))
del norm
