_base_ = './mask-rcnn_r50-caffe_fpn_ms-poly-1x_coco.py'

train_cfg = dict(max_epochs=36)
_base_.param_scheduler[1].update(end=24, milestones=[28, 34])
