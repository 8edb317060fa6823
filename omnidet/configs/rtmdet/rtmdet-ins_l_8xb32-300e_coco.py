# RTMDet-Ins (arXiv:2212.07784, section 3.4): RTMDet whose objects each bring a small network that finds their mask.
_base_ = './rtmdet_l_8xb32-300e_coco.py'

model = dict(
    bbox_head=dict(
        _delete_=True,
        type='RTMDetInsSepBNHead', num_classes=80, in_channels=256, feat_channels=256, stacked_convs=2,
        pred_kernel_size=1, share_conv=True,
        norm_cfg=dict(type='SyncBN', requires_grad=True), act_cfg=dict(type='SiLU', inplace=True),
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_mask=dict(type='DiceLoss', loss_weight=2.0, eps=5e-6, reduction='mean')),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100,
        mask_thr_binary=0.5))

# Masks stay polygons until the image has its final size; boxes follow what a crop leaves of them.
with_masks = dict(with_mask=True, poly2mask=False)
crop = dict(recompute_bbox=True, allow_negative_crop=True)
large_enough = dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1))
train_pipeline, train_pipeline_stage2 = _base_.train_pipeline, _base_.train_pipeline_stage2
train_pipeline[1].update(with_masks)
train_pipeline[4].update(crop)
train_pipeline.insert(9, large_enough)
train_pipeline_stage2[1].update(with_masks)
train_pipeline_stage2[3].update(crop)
train_pipeline_stage2.insert(4, large_enough)
del with_masks, crop, large_enough

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
_base_.custom_hooks[1].switch_pipeline = train_pipeline_stage2
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
