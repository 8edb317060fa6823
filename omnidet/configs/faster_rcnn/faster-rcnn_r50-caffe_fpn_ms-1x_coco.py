# The shorter side is one of six from 640 to 800.
_base_ = './faster-rcnn_r50-caffe_fpn_1x_coco.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=[(1333, side) for side in range(640, 801, 32)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
