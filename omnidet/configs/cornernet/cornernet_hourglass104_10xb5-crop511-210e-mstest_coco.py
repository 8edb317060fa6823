_base_ = './cornernet_hourglass104_8xb6-210e-mstest_coco.py'

train_dataloader = dict(batch_size=5)
auto_scale_lr = dict(base_batch_size=50)
