# As MMDetection 1.x and Detectron counted: a box from 0 to 9 is ten pixels wide, and anchors are rounded to that.
_base_ = '../cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'

heads = _base_.model.roi_head.bbox_head
for head in heads:
    head.bbox_coder.type = 'LegacyDeltaXYWHBBoxCoder'
    del head.loss_cls, head.loss_bbox    # the head's own defaults are these losses
model = dict(
    rpn_head=dict(
        anchor_generator=dict(type='LegacyAnchorGenerator', center_offset=0.5),
        bbox_coder=dict(type='LegacyDeltaXYWHBBoxCoder')),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        bbox_head=heads,
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False))))
del heads, head
