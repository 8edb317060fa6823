# DeepFashion's clothes in the shop, boxes and masks: validated on the queries, tested on the gallery; images at 750
# x 1101.
_base_ = './coco_instance.py'

dataset_type = 'DeepFashionDataset'
data_root = 'data/DeepFashion/In-shop/'

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = (750, 1101)
test_pipeline[1].scale = (750, 1101)

data = dict(type=dataset_type, data_root=data_root, data_prefix=dict(img='Img/'))
train, query, gallery = (f'Anno/segmentation/DeepFashion_segmentation_{part}.json'
                         for part in ('train', 'query', 'gallery'))
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='RepeatDataset', times=2,
        dataset=dict(_base_.train_dataloader.dataset, **data, ann_file=train, pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(**data, ann_file=query, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(**data, ann_file=gallery, pipeline=test_pipeline))

val_evaluator = dict(ann_file=data_root + query)
test_evaluator = dict(ann_file=data_root + gallery)
del data, train, query, gallery
