# 12 epochs of AdamW; norms and the biases of positions do not decay.
_base_ = './schedule_1x.py'

max_epochs = 12
_base_.param_scheduler[0].end = 1000
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(
        absolute_pos_embed=dict(decay_mult=0.), relative_position_bias_table=dict(decay_mult=0.),
        norm=dict(decay_mult=0.))))
