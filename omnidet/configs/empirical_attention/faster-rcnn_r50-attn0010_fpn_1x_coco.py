# An empirical study of spatial attention (arXiv:1904.05873): generalised attention in the last two stages. The four
# digits of attention_type switch its terms: query and key content, query content and position, key content,
# position.
_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='GeneralizedAttention', spatial_range=-1, num_heads=8, attention_type='0010',
                         kv_stride=2),
                stages=(False, False, True, True),
                position='after_conv2'),
        ]))
