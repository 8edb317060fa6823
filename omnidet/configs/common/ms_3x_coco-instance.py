# 36 epochs of COCO's boxes and masks (12 of three times the data), the shorter side drawn from 640 to 800.
_base_ = './ms_3x_coco.py'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].with_mask = True
test_pipeline[2].with_mask = True

train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
