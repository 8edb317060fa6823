_base_ = './mask-rcnn_x101-32x4d_fpn_gn-ws-all_2x_coco.py'

_base_.param_scheduler[1].milestones = [20, 23]
