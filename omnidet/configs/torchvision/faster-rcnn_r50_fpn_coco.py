# Faster R-CNN as torchvision has it (fasterrcnn_resnet50_fpn): the model that omnidet.checkpoints.torchvision_detection
# converts its weights for. The published weights were trained with norms without an epsilon; with others, set it.
_base_ = ['../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(norm_cfg=dict(type='BN', eps=0.0, requires_grad=False), init_cfg=None),
    rpn_head=dict(
        anchor_generator=dict(
            _delete_=True, type='TorchvisionAnchorGenerator', strides=[4, 8, 16, 32, 64],
            sizes=[32, 64, 128, 256, 512], ratios=[0.5, 1.0, 2.0]),
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1 / 9)),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        bbox_head=dict(num_classes=90, loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1 / 9))),
    test_cfg=dict(rpn=dict(min_bbox_size=1e-3), rcnn=dict(min_bbox_size=1e-2)))
