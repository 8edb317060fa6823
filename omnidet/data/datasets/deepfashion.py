"""DeepFashion's clothes in the shop, from annotations in COCO's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnidet.data.datasets.coco import CocoDataset
from omnidet.registry import DATASETS


@DATASETS.register
class DeepFashionDataset(CocoDataset):
    """DeepFashion, in-shop clothes retrieval (CVPR 2016): fifteen parts of a dressed person. Arguments as
    `BaseDetDataset`."""

    METAINFO: Mapping[str, Any] = {'classes': (
        'top', 'skirt', 'leggings', 'dress', 'outer', 'pants', 'bag', 'neckwear', 'headwear', 'eyeglass', 'belt',
        'footwear', 'hair', 'skin', 'face')}
