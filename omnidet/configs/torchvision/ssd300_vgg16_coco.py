# SSD300 as torchvision has it (ssd300_vgg16): default boxes that are no larger than the image, pixels from 0 to 255 less
# the mean. Its 90 classes are COCO's categories by their ids; `omnidet checkpoint convert --classes coco` and
# num_classes=80 keep those that are in use.
_base_ = ['../ssd/ssd300_coco.py']

model = dict(
    data_preprocessor=dict(mean=[122.99925, 116.9991, 103.9992], std=[1, 1, 1]),
    backbone=dict(init_cfg=None),
    bbox_head=dict(
        num_classes=90,
        anchor_generator=dict(
            _delete_=True, type='TorchvisionSSDAnchorGenerator', strides=[8, 16, 32, 64, 100, 300],
            ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]], sizes=[21, 45, 99, 153, 207, 261, 315], input_size=300)),
    test_cfg=dict(score_thr=0.01, nms_pre=-1, min_bbox_size=-1))
