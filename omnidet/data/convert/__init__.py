"""From the annotation formats people have to COCO's json."""

from omnidet.data.convert.via import via_to_coco
from omnidet.data.convert.voc import voc_to_coco
from omnidet.data.convert.yolo import yolo_to_coco

__all__ = ['via_to_coco', 'voc_to_coco', 'yolo_to_coco']
