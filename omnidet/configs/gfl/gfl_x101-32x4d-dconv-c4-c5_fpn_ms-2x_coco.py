_base_ = './gfl_x101-32x4d_fpn_ms-2x_coco.py'

model = dict(backbone=dict(
    dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, False, True, True)))
