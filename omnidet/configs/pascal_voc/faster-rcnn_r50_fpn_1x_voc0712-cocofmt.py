# Pascal VOC from files in COCO's form, measured as COCO does.
_base_ = './faster-rcnn_r50_fpn_1x_voc0712.py'

METAINFO = dict(
    classes=(
        'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog',
        'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor'),
    palette=[
        (106, 0, 228), (119, 11, 32), (165, 42, 42), (0, 0, 192), (197, 226, 255), (0, 60, 100), (0, 0, 142),
        (255, 77, 255), (153, 69, 1), (120, 166, 157), (0, 182, 199), (0, 226, 252), (182, 182, 255), (0, 0, 230),
        (220, 20, 60), (163, 255, 0), (0, 82, 0), (3, 95, 161), (0, 80, 100), (183, 130, 88)])
dataset_type = 'CocoDataset'

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type=dataset_type,
            data_root=_base_.data_root,
            ann_file='annotations/voc0712_trainval.json',
            data_prefix=dict(img=''),
            metainfo=METAINFO,
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=_base_.train_pipeline,
            backend_args=_base_.backend_args)))
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/voc07_test.json',
        data_prefix=dict(img=''),
        metainfo=METAINFO))
test_dataloader = val_dataloader

# CocoMetric has no eval_mode, which a merge with VOC's would leave here.
val_evaluator = dict(
    _delete_=True, type='CocoMetric', metric='bbox', ann_file=_base_.data_root + 'annotations/voc07_test.json',
    format_only=False, backend_args=_base_.backend_args)
test_evaluator = val_evaluator
