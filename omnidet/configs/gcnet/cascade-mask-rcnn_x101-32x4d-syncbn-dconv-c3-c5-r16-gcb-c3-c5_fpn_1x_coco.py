# Global context blocks (arXiv:1904.11492) in the last three stages.
_base_ = './cascade-mask-rcnn_x101-32x4d-syncbn-dconv-c3-c5_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='ContextBlock', ratio=1.0 / 16), stages=(False, True, True, True),
                position='after_conv3'),
        ]))
