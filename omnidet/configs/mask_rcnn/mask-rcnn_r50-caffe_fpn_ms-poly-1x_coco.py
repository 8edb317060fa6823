# Masks stay polygons until the image has its final size.
_base_ = './mask-rcnn_r50-caffe_fpn_ms-1x_coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].poly2mask = False
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
