# PANet's neck (arXiv:1803.01534): a way back up after FPN's way down.
_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(neck=dict(type='PAFPN'))
