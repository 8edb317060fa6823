# Simple copy-paste's baseline (arXiv:2012.07177), for 32 x 2 images an iteration.
_base_ = ['../_base_/models/mask-rcnn_r50_fpn.py', '../common/ssj_270k_coco-instance.py']

image_size = (1024, 1024)
batch_augments = [dict(type='BatchFixedSizePad', size=image_size, pad_mask=True)]
norm_cfg = dict(type='SyncBN', requires_grad=True)
head_norm_cfg = dict(type='MMSyncBN', requires_grad=True)    # also averages where a device has no proposal
model = dict(
    data_preprocessor=dict(batch_augments=batch_augments),
    backbone=dict(frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False, init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=head_norm_cfg),
        mask_head=dict(norm_cfg=head_norm_cfg)))
