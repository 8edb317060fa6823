"""Data sets, under MMDetection's names and arguments."""

from omnidet.data.datasets.base import BaseDetDataset
from omnidet.data.datasets.coco import CocoDataset
from omnidet.data.datasets.wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset

__all__ = ['BaseDetDataset', 'ClassBalancedDataset', 'CocoDataset', 'ConcatDataset', 'RepeatDataset']
