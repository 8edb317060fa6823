# CentripetalNet (arXiv:2003.09119): CornerNet whose corners point to their object's centre.
_base_ = '../cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py'

model = dict(bbox_head=dict(
    _delete_=True, type='CentripetalHead', num_classes=80, in_channels=256, num_feat_levels=2, corner_emb_channels=0,
    loss_heatmap=dict(type='GaussianFocalLoss', alpha=2.0, gamma=4.0, loss_weight=1),
    loss_offset=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1),
    loss_guiding_shift=dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.05),
    loss_centripetal_shift=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1)))

_base_.param_scheduler[1].milestones = [190]
auto_scale_lr = dict(base_batch_size=96)
