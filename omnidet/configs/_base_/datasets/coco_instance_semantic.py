# COCO's boxes, masks and a map of stuff for each image.
_base_ = './coco_instance.py'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1].with_seg = True
test_pipeline[2].with_seg = True

train_dataloader = dict(dataset=dict(data_prefix=dict(seg='stuffthingmaps/train2017/'), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
