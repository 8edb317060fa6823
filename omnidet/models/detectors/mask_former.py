"""Detectors by mask classification: backbone, a head of queries with masks, and what makes results of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from omnidet.models.detectors.base import BaseDetector
from omnidet.registry import DENSE_HEADS, DETECTORS, SEG_HEADS
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]


@DETECTORS.register
class MaskFormer(BaseDetector):
    """MaskFormer (arXiv:2107.06278): instances, stuff, or both, each as a class and a mask.

    Parameters: backbone, neck, panoptic_head.

    Args:
        backbone, neck: the parts.
        panoptic_head: predicts classes and masks of queries.
        panoptic_fusion_head: makes instances and maps of them.
        train_cfg: handed to `panoptic_head` where it has none of its own.
        test_cfg: handed to both heads, likewise.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.
    """

    def __init__(self, backbone: Cfg, panoptic_head: Cfg, panoptic_fusion_head: Cfg, neck: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(backbone, neck)
        self.panoptic_head = DENSE_HEADS.build(panoptic_head, train_cfg=train_cfg, test_cfg=test_cfg)
        self.panoptic_fusion_head = SEG_HEADS.build(panoptic_fusion_head, test_cfg=test_cfg)

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        return self.panoptic_head.loss(self.extract_feat(images), targets)

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The results of each image, in pixels of its file where `rescale`."""
        logits, masks = self.panoptic_head.predict(self.extract_feat(images))
        shape = (images.shape[-2], images.shape[-1])
        return self.panoptic_fusion_head.predict(logits, masks, shape, metas, rescale)


@DETECTORS.register
class Mask2Former(MaskFormer):
    """Mask2Former (arXiv:2112.01527): see `MaskFormer`."""
