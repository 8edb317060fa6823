# From weights that SwAV (arXiv:2006.09882) learned without labels; put its backbone into the file that checkpoint
# names.
_base_ = '../mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        frozen_stages=0, norm_cfg=dict(type='SyncBN'), norm_eval=False,
        init_cfg=dict(checkpoint='./swav_800ep_pretrain.pth.tar')))
