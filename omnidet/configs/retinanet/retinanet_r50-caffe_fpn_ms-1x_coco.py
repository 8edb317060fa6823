_base_ = './retinanet_r50-caffe_fpn_1x_coco.py'

train_pipeline = _base_.train_pipeline
del train_pipeline[0].backend_args
train_pipeline[2] = dict(
    type='RandomChoiceResize', scales=[(1333, side) for side in range(640, 801, 32)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
