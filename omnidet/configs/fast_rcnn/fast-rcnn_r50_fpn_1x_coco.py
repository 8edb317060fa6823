_base_ = [
    '../_base_/models/fast-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

# Proposals, made once by a region proposal network, are loaded with the image and resized and flipped with it.
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline.insert(1, dict(type='LoadProposals', num_max_proposals=2000))
train_pipeline[3:5] = [dict(type='ProposalBroadcaster', transforms=train_pipeline[3:5])]
test_pipeline[1:3] = [
    dict(type='LoadProposals', num_max_proposals=None),
    dict(type='ProposalBroadcaster', transforms=[test_pipeline[1]]),
]

train_dataloader = dict(
    dataset=dict(proposal_file='proposals/rpn_r50_fpn_1x_train2017.pkl', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(proposal_file='proposals/rpn_r50_fpn_1x_val2017.pkl', pipeline=test_pipeline))
test_dataloader = val_dataloader
