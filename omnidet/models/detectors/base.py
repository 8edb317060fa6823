"""What all detectors share: backbone, neck, and the calls that do not depend on the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.registry import BACKBONES, NECKS
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]


class BaseDetector(nn.Module):
    """Backbone and neck; a subclass adds heads, `loss` and `predict`.

    Args:
        backbone, neck: the parts; a list of necks is a chain (Libra R-CNN, DyHead).
    """

    def __init__(self, backbone: Cfg, neck: Cfg | Sequence[Cfg] | None) -> None:
        super().__init__()
        self.backbone = BACKBONES.build(backbone)
        self.neck = None if neck is None else build_neck(neck)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) normalised images -> one (B, C, H_l, W_l) for each level."""
        feats = self.backbone(images)
        return feats if self.neck is None else self.neck(feats)

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        raise NotImplementedError(f'{type(self).__name__} does not define loss()')

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """What is found in each image, in pixels of its file where `rescale`."""
        raise NotImplementedError(f'{type(self).__name__} does not define predict()')

    def set_progress(self, epoch: int, iteration: int) -> None:
        """Tell parts that change in the course of a training where it is; called before every step.

        Args:
            epoch: finished epochs.
            iteration: finished iterations.
        """
        for module in self.modules():
            if module is not self and hasattr(module, 'set_progress'):
                module.set_progress(epoch, iteration)

    def forward(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """As `loss`: what wrappers and counters of operations call."""
        return self.loss(images, targets)


def build_neck(cfg: Cfg | Sequence[Cfg]) -> nn.Module:
    """One neck, or a chain of necks of which each takes what the one before gives."""
    if isinstance(cfg, Sequence):
        return nn.Sequential(*(NECKS.build(c) for c in cfg))
    return NECKS.build(cfg)
