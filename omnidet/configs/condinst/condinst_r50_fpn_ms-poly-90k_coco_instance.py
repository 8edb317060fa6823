# CondInst (arXiv:2003.05664): FCOS, whose objects each bring a small network that finds their mask.
_base_ = ['../_base_/models/fcos_r50_fpn.py', '../common/ms-poly-90k_coco-instance.py']

model = dict(
    type='CondInst',
    data_preprocessor=dict(pad_mask=True),
    bbox_head=dict(
        type='CondInstBboxHead', num_params=169, norm_on_bbox=True, centerness_on_reg=True, dcn_on_last_conv=False,
        center_sampling=True, conv_bias=True, loss_bbox=dict(type='GIoULoss')),
    mask_head=dict(
        type='CondInstMaskHead', num_layers=3, feat_channels=8, size_of_interest=8, mask_out_stride=4,
        max_masks_to_train=300,
        mask_feature_head=dict(
            start_level=0, end_level=2, in_channels=256, feat_channels=128, out_channels=8, mask_stride=8,
            num_stacked_convs=4, norm_cfg=dict(type='BN', requires_grad=True)),
        loss_mask=dict(type='DiceLoss', use_sigmoid=True, activate=True, eps=5e-6, loss_weight=1.0)),
    test_cfg=dict(nms=dict(iou_threshold=0.6), mask_thr=0.5))

optim_wrapper = dict(optimizer=dict(lr=0.01))
