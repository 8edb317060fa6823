_base_ = [
    '../_base_/models/yolox.py',
    '../_base_/datasets/coco_yolox.py',
    '../_base_/schedules/yolox_300e.py',
    './yolox_tta.py',
]
