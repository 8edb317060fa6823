# Faster R-CNN on one map of stride 16: the backbone's last stage runs on each proposal, instead of a neck and two
# layers.
_base_ = './faster-rcnn_r50_fpn.py'
del _base_.model.neck
del _base_.model.roi_head.bbox_head.fc_out_channels

norm_cfg = dict(type='BN', requires_grad=False)
model = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), norm_cfg=norm_cfg, style='caffe',
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet50_caffe')),
    rpn_head=dict(
        in_channels=1024, feat_channels=1024, anchor_generator=dict(scales=[2, 4, 8, 16, 32], strides=[16])),
    roi_head=dict(
        shared_head=dict(
            type='ResLayer', depth=50, stage=3, stride=2, dilation=1, style='caffe', norm_cfg=norm_cfg, norm_eval=True,
            init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe')),
        bbox_roi_extractor=dict(roi_layer=dict(output_size=14), out_channels=1024, featmap_strides=[16]),
        bbox_head=dict(type='BBoxHead', with_avg_pool=True, in_channels=2048)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=12000, max_per_img=2000)),
    test_cfg=dict(rpn=dict(nms_pre=6000)))
