_base_ = './mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco.py'

train_dataloader = dict(dataset=dict(times=2))
