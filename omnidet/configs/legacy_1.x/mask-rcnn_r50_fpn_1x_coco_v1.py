# As MMDetection 1.x and Detectron counted: a box from 0 to 9 is ten pixels wide, and anchors are rounded to that.
_base_ = '../mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

model = dict(
    rpn_head=dict(
        anchor_generator=dict(type='LegacyAnchorGenerator', center_offset=0.5),
        bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder'),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0)),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        bbox_head=dict(
            bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder'), loss_bbox=dict(type='SmoothL1Loss', beta=1.0)),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False))),
    train_cfg=dict(rpn_proposal=dict(max_per_img=2000)))
