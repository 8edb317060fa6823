"""Data sets, under MMDetection's names and arguments."""

from omnidet.data.datasets.base import BaseDetDataset
from omnidet.data.datasets.coco import CocoDataset

__all__ = ['BaseDetDataset', 'CocoDataset']
