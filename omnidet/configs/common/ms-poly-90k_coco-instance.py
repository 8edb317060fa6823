# As ms-90k_coco, with masks, which stay polygons until the image has its final size.
_base_ = './ms-90k_coco.py'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].update(with_mask=True, poly2mask=False)
test_pipeline[2].update(with_mask=True, poly2mask=False)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
