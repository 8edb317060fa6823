# Mask R-CNN from random weights, as strong as simple copy-paste's paper (arXiv:2012.07177) makes it: two
# convolutions in the region proposal network, four in the box head, norms over all devices everywhere, and
# large-scale jitter.
_base_ = ['../_base_/models/mask-rcnn_r50_fpn.py', '../common/lsj-100e_coco-instance.py']

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
