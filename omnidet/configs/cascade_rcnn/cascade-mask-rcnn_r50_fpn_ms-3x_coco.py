_base_ = ['../_base_/models/cascade-mask-rcnn_r50_fpn.py', '../common/ms_3x_coco-instance.py']
