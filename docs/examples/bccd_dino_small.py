_base_ = 'dino/dino-4scale_r50_8xb2-12e_coco'

data_root, size, width = 'data/bccd/', (320, 320), 128
weights = dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/mobilenet_v2-b0353104.pth')
attention, ffn = dict(embed_dims=width), dict(embed_dims=width, feedforward_channels=512)
model = dict(
    num_queries=100,
    backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(2, 4, 6), frozen_stages=1, norm_eval=True,
                  init_cfg=weights),
    neck=dict(in_channels=[32, 96, 320], out_channels=width),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
    decoder=dict(num_layers=3, layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn)),
    positional_encoding=dict(num_feats=width // 2),
    bbox_head=dict(num_classes=3, embed_dims=width),
    test_cfg=dict(max_per_img=100))

load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
train_pipeline = [*load, dict(type='RandomResize', scale=size, ratio_range=(0.8, 1.2), keep_ratio=True),
                  dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_pipeline = [load[0], dict(type='Resize', scale=size, keep_ratio=True), load[1], dict(
    type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]

classes = dict(classes=('RBC', 'WBC', 'Platelets'))
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(
    data_root=data_root, ann_file='trainval.json', data_prefix=dict(img='JPEGImages/'), metainfo=classes,
    pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(
    data_root=data_root, ann_file='test.json', data_prefix=dict(img='JPEGImages/'), metainfo=classes,
    pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'test.json', classwise=True)
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=20, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=0.0004))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', begin=0, end=20, by_epoch=True, milestones=[15], gamma=0.1)]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1, save_best='coco/bbox_mAP'))
