"""Data sets, under MMDetection's names and arguments."""

from omnidet.data.datasets.base import BaseDetDataset
from omnidet.data.datasets.cityscapes import CityscapesDataset
from omnidet.data.datasets.coco import CocoDataset
from omnidet.data.datasets.deepfashion import DeepFashionDataset
from omnidet.data.datasets.voc import VOCDataset, XMLDataset
from omnidet.data.datasets.wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset

__all__ = ['BaseDetDataset', 'CityscapesDataset', 'ClassBalancedDataset', 'CocoDataset', 'ConcatDataset',
           'DeepFashionDataset', 'RepeatDataset', 'VOCDataset', 'XMLDataset']
