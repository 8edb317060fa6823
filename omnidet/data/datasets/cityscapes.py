"""Cityscapes' objects, from annotations in COCO's format (arXiv:1604.01685)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from omnidet.data.datasets.coco import CocoDataset, CocoFile
from omnidet.registry import DATASETS

CITYSCAPES_CLASSES = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')

CITYSCAPES_PALETTE = ((220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230),
                      (119, 11, 32))


@DATASETS.register
class CityscapesDataset(CocoDataset):
    """Cityscapes' eight classes of objects. Arguments as `BaseDetDataset`.

    With `filter_empty_gt`, images whose objects are all groups (`iscrowd`) are left out too.
    """

    METAINFO: Mapping[str, Any] = {'classes': CITYSCAPES_CLASSES, 'palette': CITYSCAPES_PALETTE}

    def learnable(self, file: CocoFile, cat_ids: Sequence[int]) -> np.ndarray:
        single = ~np.array([bool(row.get('iscrowd', 0)) for row in file.annotations], bool)
        return single & super().learnable(file, cat_ids)
