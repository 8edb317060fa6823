_base_ = './lsj-100e_coco-detection.py'

train_dataloader = dict(dataset=dict(times=8))
_base_.param_scheduler[0].end = 1000
