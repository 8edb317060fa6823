# RetinaNet as torchvision has it (retinanet_resnet50_fpn): anchors on whole pixels, and the coarsest two levels made of
# the finished third. Its 90 classes are COCO's categories by their ids; `omnidet checkpoint convert --classes coco` and
# num_classes=80 keep those that are in use.
_base_ = ['../retinanet/retinanet_r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(norm_cfg=dict(type='BN', eps=0.0, requires_grad=False), init_cfg=None),
    neck=dict(add_extra_convs='on_output', relu_before_extra_convs=True),
    bbox_head=dict(
        num_classes=90,
        anchor_generator=dict(
            _delete_=True, type='TorchvisionAnchorGenerator', strides=[8, 16, 32, 64, 128],
            sizes=[[32, 40, 50], [64, 80, 101], [128, 161, 203], [256, 322, 406], [512, 645, 812]],
            ratios=[0.5, 1.0, 2.0])),
    test_cfg=dict(max_per_img=300))
