# Deformable RoI pooling with modulation (arXiv:1811.11168): each bin is moved by a learned offset.
_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(_delete_=True, type='ModulatedDeformRoIPoolPack', output_size=7, output_channels=256))))
