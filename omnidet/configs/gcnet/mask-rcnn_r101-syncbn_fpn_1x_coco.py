# Batch norms that train, over all devices together.
_base_ = '../mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py'

model = dict(backbone=dict(norm_cfg=dict(type='SyncBN'), norm_eval=False))
