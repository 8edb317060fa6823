# RTMDet-nano finds persons at 320 x 320, with depthwise convolutions throughout.
_base_ = './rtmdet_tiny_8xb32-300e_coco.py'
del _base_.checkpoint    # there are no weights of a backbone this narrow to start from

classes = ('person',)
model = dict(
    backbone=dict(deepen_factor=0.33, widen_factor=0.25, use_depthwise=True, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256], out_channels=64, num_csp_blocks=1, use_depthwise=True),
    bbox_head=dict(
        num_classes=1, in_channels=64, feat_channels=64, share_conv=False, exp_on_reg=False, use_depthwise=True),
    test_cfg=dict(score_thr=0.05, nms_pre=1000, nms=dict(iou_threshold=0.6), max_per_img=100))

# Everything at half the size: a pair of numbers in a pipeline is a size, unless it is a ratio.
train_pipeline, train_pipeline_stage2, test_pipeline = [
    [{key: (value[0] // 2, value[1] // 2) if key in ('img_scale', 'scale', 'crop_size', 'size') else value
      for key, value in transform.items()} for transform in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.train_pipeline_stage2, _base_.test_pipeline)]
train_dataloader = dict(dataset=dict(metainfo=dict(classes=classes), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(metainfo=dict(classes=classes), pipeline=test_pipeline))
test_dataloader = val_dataloader
_base_.custom_hooks[1].switch_pipeline = train_pipeline_stage2

img_scales = [(320, 320), (160, 160), (480, 480)]
_base_.tta_pipeline[1].transforms[0] = [dict(type='Resize', scale=s, keep_ratio=True) for s in img_scales]
_base_.tta_pipeline[1].transforms[2][0].size = (480, 480)
