_base_ = '../mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

# From ResNet strikes back's weights (arXiv:2110.00476), trained with AdamW.
checkpoint = (
    'https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb256-rsb-a1-600e_in1k_20211228-20e21305.pth')
model = dict(backbone=dict(init_cfg=dict(prefix='backbone.', checkpoint=checkpoint)))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bypass_duplicate=True))
