# Large-scale jitter (arXiv:2012.07177), 200 epochs of it, in mixed precision.
_base_ = ['../_base_/models/fcos_r50_fpn.py', '../common/lsj-200e_coco-detection.py']

image_size = (1024, 1024)
batch_augments = [dict(type='BatchFixedSizePad', size=image_size)]
model = dict(
    data_preprocessor=dict(batch_augments=batch_augments),
    bbox_head=dict(
        norm_on_bbox=True, centerness_on_reg=True, dcn_on_last_conv=False, center_sampling=True, conv_bias=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0)),
    test_cfg=dict(nms=dict(iou_threshold=0.6)))

train_dataloader = dict(batch_size=8, num_workers=4)
optim_wrapper = dict(
    type='AmpOptimWrapper', optimizer=dict(lr=0.01 * 4, weight_decay=4e-5),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0), clip_grad=dict(max_norm=35, norm_type=2))
auto_scale_lr = dict(base_batch_size=64)
