_base_ = './deformable-detr-refine_r50_coco.py'

model = dict(as_two_stage=True)
