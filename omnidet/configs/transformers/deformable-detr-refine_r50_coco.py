_base_ = './deformable-detr_r50_coco.py'

model = dict(with_box_refine=True)
