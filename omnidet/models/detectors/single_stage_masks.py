"""Detectors that find masks in one stage, without looking at regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.registry import BACKBONES, DETECTORS, MASK_HEADS, NECKS
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]


@DETECTORS.register
class SOLOv2(nn.Module):
    """SOLOv2 (arXiv:2003.10152). Parameters: backbone, neck, mask_head.

    Args:
        backbone, neck, mask_head: the parts.
        bbox_head: must be None: masks are found without boxes.
        train_cfg, test_cfg: handed to the head where it has none of its own.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.
    """

    def __init__(self, backbone: Cfg, mask_head: Cfg, neck: Cfg | None = None, bbox_head: None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.backbone = BACKBONES.build(backbone)
        self.neck = None if neck is None else NECKS.build(neck)
        self.mask_head = MASK_HEADS.build(mask_head, train_cfg=train_cfg, test_cfg=test_cfg)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) normalised images -> one (B, C, H_l, W_l) for each level."""
        feats = self.backbone(images)
        return feats if self.neck is None else self.neck(feats)

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        return self.mask_head.loss(self.extract_feat(images), targets)

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        return self.mask_head.predict(self.extract_feat(images), metas, rescale)

    def set_progress(self, epoch: int, iteration: int) -> None:
        """Nothing here changes in the course of a training."""

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """As `loss`: what wrappers and counters of operations call."""
        return self.loss(images, targets)
