# Whatever the name says, it is the schedule of 100 epochs: that is the experiment which was published as this.
_base_ = ['../_base_/models/mask-rcnn_r50_fpn.py', '../common/lsj-100e_coco-instance.py']

image_size = (1024, 1024)
batch_augments = [dict(type='BatchFixedSizePad', size=image_size, pad_mask=True)]
model = dict(data_preprocessor=dict(batch_augments=batch_augments))

train_dataloader = dict(batch_size=8, num_workers=4)
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=0.02 * 4))
