# Deformable RoI pooling (arXiv:1703.06211): each bin is moved by a learned offset.
_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(_delete_=True, type='DeformRoIPoolPack', output_size=7, output_channels=256))))
