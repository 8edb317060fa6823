"""Detectors with one stage: backbone, neck, dense head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.registry import BACKBONES, DENSE_HEADS, DETECTORS, NECKS
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]


@DETECTORS.register
class SingleStageDetector(nn.Module):
    """Backbone, neck and one dense head. Parameters: backbone, neck, bbox_head.

    Args:
        backbone, neck, bbox_head: the parts.
        train_cfg, test_cfg: handed to the head where it has none of its own.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.
    """

    def __init__(self, backbone: Cfg, bbox_head: Cfg, neck: Cfg | None = None, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.backbone = BACKBONES.build(backbone)
        self.neck = None if neck is None else NECKS.build(neck)
        self.bbox_head = DENSE_HEADS.build(bbox_head, train_cfg=train_cfg, test_cfg=test_cfg)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) normalised images -> one (B, C, H_l, W_l) for each level."""
        feats = self.backbone(images)
        return feats if self.neck is None else self.neck(feats)

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        return self.bbox_head.loss(self.extract_feat(images), targets)

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        return self.bbox_head.predict(self.extract_feat(images), metas, rescale)

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


@DETECTORS.register
class RTMDet(SingleStageDetector):
    """RTMDet (arXiv:2212.07784).

    Args:
        use_syncbn: accepted as configs carry it; `norm_cfg` says which norm is built.
        The others: see `SingleStageDetector`.
    """

    def __init__(self, backbone: Cfg, bbox_head: Cfg, neck: Cfg | None = None, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, use_syncbn: bool = True) -> None:
        super().__init__(backbone, bbox_head, neck, train_cfg, test_cfg, data_preprocessor, init_cfg)


@DETECTORS.register
class CenterNet(SingleStageDetector):
    """CenterNet (arXiv:1904.07850) and its update (arXiv:2103.07461): see `SingleStageDetector`."""


@DETECTORS.register
class RetinaNet(SingleStageDetector):
    """RetinaNet (arXiv:1708.02002): see `SingleStageDetector`."""


@DETECTORS.register
class FCOS(SingleStageDetector):
    """FCOS (arXiv:1904.01355): see `SingleStageDetector`."""


@DETECTORS.register
class ATSS(SingleStageDetector):
    """ATSS (arXiv:1912.02424): see `SingleStageDetector`."""


@DETECTORS.register
class GFL(SingleStageDetector):
    """Generalised focal loss (arXiv:2006.04388): see `SingleStageDetector`."""


@DETECTORS.register
class TOOD(SingleStageDetector):
    """Task-aligned one-stage detection (arXiv:2108.07755): see `SingleStageDetector`."""


@DETECTORS.register
class YOLOX(SingleStageDetector):
    """YOLOX (arXiv:2107.08430): see `SingleStageDetector`."""


@DETECTORS.register
class RPN(SingleStageDetector):
    """A region proposal network by itself (arXiv:1506.01497, section 3.1); it finds objects of class 0.

    Args:
        rpn_head: the head; it is known as `bbox_head` in checkpoints.
        train_cfg, test_cfg: their `rpn` is handed to the head where it has none of its own.
        The others: see `SingleStageDetector`.
    """

    def __init__(self, backbone: Cfg, neck: Cfg | None, rpn_head: Cfg, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(backbone, rpn_head, neck, None if train_cfg is None else train_cfg.get('rpn'),
                         None if test_cfg is None else test_cfg.get('rpn'), data_preprocessor, init_cfg)
