# Online hard example mining (arXiv:1604.03540): the proposals with the largest loss are trained on.
_base_ = './faster-rcnn_r50_fpn_1x_coco.py'

model = dict(train_cfg=dict(rcnn=dict(sampler=dict(type='OHEMSampler'))))
