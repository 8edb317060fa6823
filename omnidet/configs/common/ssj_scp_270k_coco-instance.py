# As ssj_270k_coco-instance, with simple copy-paste (arXiv:2012.07177): objects of one image are pasted into another.
_base_ = './ssj_270k_coco-instance.py'

load_pipeline = [*_base_.train_pipeline[:-1], dict(type='Pad', size=_base_.image_size)]
train_pipeline = [dict(type='CopyPaste', max_num_pasted=100), dict(type='PackDetInputs')]
train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='MultiImageMixDataset',
        dataset=dict(_base_.train_dataloader.dataset, pipeline=load_pipeline), pipeline=train_pipeline))
