# 12 epochs of SGD, the rate divided by ten after epochs 8 and 11; for 8 x 2 images an iteration.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', gamma=0.1, milestones=[8, 11], by_epoch=True, begin=0, end=12),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
