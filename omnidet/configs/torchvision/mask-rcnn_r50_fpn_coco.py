# Mask R-CNN as torchvision has it (maskrcnn_resnet50_fpn); see faster-rcnn_r50_fpn_coco.py.
_base_ = ['../mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(norm_cfg=dict(type='BN', eps=0.0, requires_grad=False), init_cfg=None),
    rpn_head=dict(
        anchor_generator=dict(
            _delete_=True, type='TorchvisionAnchorGenerator', strides=[4, 8, 16, 32, 64],
            sizes=[32, 64, 128, 256, 512], ratios=[0.5, 1.0, 2.0]),
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1 / 9)),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        bbox_head=dict(num_classes=90, loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1 / 9)),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        mask_head=dict(num_classes=90)),
    test_cfg=dict(rpn=dict(min_bbox_size=1e-3), rcnn=dict(min_bbox_size=1e-2)))
