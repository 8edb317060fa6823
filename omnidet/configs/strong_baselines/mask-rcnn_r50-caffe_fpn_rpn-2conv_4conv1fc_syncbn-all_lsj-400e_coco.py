_base_ = './mask-rcnn_r50-caffe_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco.py'

train_dataloader = dict(dataset=dict(times=16))
_base_.param_scheduler[0].end = 2000
_base_.param_scheduler[1].end = 12    # so that the rate is never divided: that is the experiment which was published
