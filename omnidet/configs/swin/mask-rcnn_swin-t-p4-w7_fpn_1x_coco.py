_base_ = [
    '../_base_/models/mask-rcnn_swin-t_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/swin_1x.py',
    '../_base_/default_runtime.py',
]
