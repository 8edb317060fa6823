# CenterNet as CenterNet2's first stage has it (arXiv:2103.07461): FCOS's towers, Gaussian targets, no centerness.
_base_ = './resnet50_fpn.py'

model = dict(
    type='CenterNet',
    neck=dict(
        start_level=1, add_extra_convs='on_output', relu_before_extra_convs=True,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d')),
    bbox_head=dict(
        type='CenterNetUpdateHead', num_classes=80, in_channels=256, stacked_convs=4, feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        loss_cls=dict(type='GaussianFocalLoss', pos_weight=0.25, neg_weight=0.75, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=None,
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100))
