# TOOD (arXiv:2108.07755) on ATSS's trunk: one tower, features for each task by attention over its layers, and positives
# that classify and localise well at once; ATSS chooses them in the first four epochs.
_base_ = '../atss/atss_r50_fpn_1x_coco.py'

model = dict(
    type='TOOD',
    bbox_head=dict(
        _delete_=True, type='TOODHead', num_classes=80, in_channels=256, stacked_convs=6, feat_channels=256,
        anchor_type='anchor_free',
        anchor_generator=dict(
            type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
            strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]),
        initial_loss_cls=dict(
            type='FocalLoss', use_sigmoid=True, activated=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, activated=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        initial_epoch=4, initial_assigner=dict(type='ATSSAssigner', topk=9),
        assigner=dict(_delete_=True, type='TaskAlignedAssigner', topk=13), alpha=1, beta=6))
