# FCOS as torchvision has it (fcos_resnet50_fpn): points at the corners of cells, scores that are the root of class
# probability times centerness. Its 90 classes are COCO's categories by their ids; `omnidet checkpoint convert --classes
# coco` and num_classes=80 keep those that are in use.
_base_ = ['../fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py']

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(norm_cfg=dict(type='BN', eps=0.0, requires_grad=False), style='pytorch', init_cfg=None),
    bbox_head=dict(
        type='TorchvisionFCOSHead', num_classes=90, loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=1.0)),
    test_cfg=dict(score_thr=0.2, min_bbox_size=-1, nms=dict(type='nms', iou_threshold=0.6)))
