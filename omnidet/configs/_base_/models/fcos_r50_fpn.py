# FCOS (arXiv:1904.01355): towers with group norm over P3 to P7, IoU loss, and a centerness beside the classes.
_base_ = './resnet50_fpn.py'

model = dict(
    type='FCOS',
    neck=dict(start_level=1, add_extra_convs='on_output', relu_before_extra_convs=True),    # P6 and P7 from P5
    bbox_head=dict(
        type='FCOSHead', num_classes=80, in_channels=256, stacked_convs=4, feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='IoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
