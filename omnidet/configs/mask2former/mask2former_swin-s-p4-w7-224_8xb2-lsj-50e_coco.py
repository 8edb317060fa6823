_base_ = './mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth'
depths = [2, 2, 18, 2]
model = dict(backbone=dict(depths=depths, init_cfg=dict(checkpoint=pretrained)))

custom_keys = {f'backbone.stages.2.blocks.{block}.norm': _base_.backbone_norm_multi for block in range(6, 18)}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=custom_keys))
