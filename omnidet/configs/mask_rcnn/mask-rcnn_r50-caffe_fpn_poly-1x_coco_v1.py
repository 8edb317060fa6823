# As Detectron and MMDetection 1.x had it: RoIAlign without the half pixel, and smooth L1 losses.
_base_ = './mask-rcnn_r50-caffe_fpn_1x_coco.py'

roi_layer = dict(sampling_ratio=2, aligned=False)
model = dict(
    rpn_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0)),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer),
        bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0)),
        mask_roi_extractor=dict(roi_layer=roi_layer)))
del roi_layer
