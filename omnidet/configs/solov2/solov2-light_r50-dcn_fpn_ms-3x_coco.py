# Deformable convolutions in the backbone's last three stages and at the end of the head's towers.
_base_ = './solov2-light_r50_fpn_ms-3x_coco.py'

model = dict(
    backbone=dict(
        dcn=dict(type='DCNv2', deformable_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True)),
    mask_head=dict(
        stacked_convs=3, dcn_cfg=dict(type='DCNv2'), dcn_apply_to_all_conv=False,
        scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))))
