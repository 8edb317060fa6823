# Large-scale jitter (arXiv:2012.07177), 200 epochs of it, in mixed precision.
_base_ = ['../_base_/models/atss_r50_fpn.py', '../common/lsj-200e_coco-detection.py']

image_size = (1024, 1024)
batch_augments = [dict(type='BatchFixedSizePad', size=image_size)]
model = dict(data_preprocessor=dict(batch_augments=batch_augments))

train_dataloader = dict(batch_size=8, num_workers=4)
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=0.01 * 4, weight_decay=4e-5))
auto_scale_lr = dict(base_batch_size=64)
