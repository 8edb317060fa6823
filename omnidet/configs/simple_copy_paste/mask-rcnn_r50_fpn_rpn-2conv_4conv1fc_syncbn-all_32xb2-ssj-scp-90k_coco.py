# The rate falls within 90,000 iterations; the loop goes on to 270,000, as it was published.
_base_ = './mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-270k_coco.py'

max_iters = 90000
_base_.param_scheduler[0].update(start_factor=0.067, end=500)
_base_.param_scheduler[1].update(end=max_iters, milestones=[81000, 85500, 87750])
