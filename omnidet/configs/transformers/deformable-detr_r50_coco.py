# Deformable DETR as the library transformers has it (SenseTime/deformable-detr): its convolutions before a group norm
# have a bias. `omnidet checkpoint convert ... --from transformers --classes coco` makes the weights.
_base_ = '../deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'

model = dict(neck=dict(bias=True))
