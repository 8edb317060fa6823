# 300 epochs of AdamW: the rate is flat for the first half, then falls along a cosine; no decay on norms and biases.
_base_ = './schedule_1x.py'

max_epochs = 300
stage2_num_epochs = 20    # the last epochs, without mosaic and mix-up
base_lr = 0.004
interval = 10             # epochs from one validation and checkpoint to the next

train_cfg = dict(max_epochs=max_epochs, val_interval=interval, dynamic_intervals=[(max_epochs - stage2_num_epochs, 1)])
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', eta_min=base_lr * 0.05, T_max=max_epochs // 2, begin=max_epochs // 2, end=max_epochs,
         by_epoch=True, convert_to_iter_based=True),
]
