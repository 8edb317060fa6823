# Deformable convolutions (arXiv:1811.11168) in the last three stages and at the end of the towers.
_base_ = './fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py'

model = dict(
    backbone=dict(
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, True, True, True)),
    bbox_head=dict(dcn_on_last_conv=True))
