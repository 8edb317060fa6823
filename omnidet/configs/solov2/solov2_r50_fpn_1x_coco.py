# SOLOv2 (arXiv:2003.10152): masks of instances by grids, without boxes.
_base_ = ['../_base_/models/solov2_r50_fpn.py', '../_base_/datasets/coco_instance.py',
          '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py']

optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35, norm_type=2))

val_evaluator = dict(metric='segm')    # what boxes there are follow from the masks
test_evaluator = val_evaluator
