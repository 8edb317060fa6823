"""Detectors that find masks in one stage, without looking at regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from omnidet.models.detectors.base import BaseDetector
from omnidet.registry import DENSE_HEADS, DETECTORS, MASK_HEADS
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]


@DETECTORS.register
class SingleStageInstanceSegmentor(BaseDetector):
    """Backbone, neck and a mask head that needs nothing else. Parameters: backbone, neck, mask_head.

    Args:
        backbone, neck, mask_head: the parts.
        bbox_head: None here; a head that finds the boxes where a detector has one.
        train_cfg, test_cfg: handed to the heads where they have none of their own.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.
    """

    def __init__(self, backbone: Cfg, mask_head: Cfg, neck: Cfg | None = None, bbox_head: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(backbone, neck)
        if bbox_head is not None:
            self.bbox_head = DENSE_HEADS.build(bbox_head, train_cfg=train_cfg, test_cfg=test_cfg)
        self.mask_head = MASK_HEADS.build(mask_head, train_cfg=train_cfg, test_cfg=test_cfg)

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        return self.mask_head.loss(self.extract_feat(images), targets)

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        return self.mask_head.predict(self.extract_feat(images), metas, rescale)


@DETECTORS.register
class SOLOv2(SingleStageInstanceSegmentor):
    """SOLOv2 (arXiv:2003.10152): see `SingleStageInstanceSegmentor`."""


@DETECTORS.register
class CondInst(SingleStageInstanceSegmentor):
    """CondInst (arXiv:2003.05664): a grid head finds boxes and predicts networks, which find masks.

    Parameters: backbone, neck, bbox_head, mask_head.

    Args:
        bbox_head: a grid head whose `forward` also gives `kernel`.
        The others: see `SingleStageInstanceSegmentor`.
    """

    def __init__(self, backbone: Cfg, neck: Cfg, bbox_head: Cfg, mask_head: Cfg, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(backbone, mask_head, neck, bbox_head, train_cfg, test_cfg, data_preprocessor, init_cfg)

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        feats = self.extract_feat(images)
        out, priors = self.bbox_head(feats), self.bbox_head.priors(feats)
        losses, assignment = self.bbox_head.losses_and_assignment(out, priors, targets)
        return {**losses, **self.mask_head.loss(feats, out['kernel'], priors, assignment, targets)}

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        feats = self.extract_feat(images)
        out, priors = self.bbox_head(feats), self.bbox_head.priors(feats)
        found = self.bbox_head.detect_with_priors(out, priors, metas, rescale, self.bbox_head.postprocess)
        return self.mask_head.predict(feats, out['kernel'], priors, found, metas, rescale)
