# Global context blocks (arXiv:1904.11492) in the last three stages.
_base_ = '../mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='ContextBlock', ratio=1.0 / 4), stages=(False, True, True, True),
                position='after_conv3'),
        ]))
