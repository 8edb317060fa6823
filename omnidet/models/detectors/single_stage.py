"""Detectors with one stage: backbone, neck, dense head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from omnidet.models.detectors.base import BaseDetector
from omnidet.registry import DENSE_HEADS, DETECTORS
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]


@DETECTORS.register
class SingleStageDetector(BaseDetector):
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
        super().__init__(backbone, neck)
        self.bbox_head = DENSE_HEADS.build(bbox_head, train_cfg=train_cfg, test_cfg=test_cfg)

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        return self.bbox_head.loss(self.extract_feat(images), targets)

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        return self.bbox_head.predict(self.extract_feat(images), metas, rescale)


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
class CornerNet(SingleStageDetector):
    """CornerNet (arXiv:1808.01244) and CentripetalNet (arXiv:2003.09119): see `SingleStageDetector`.

    Its head is told the size of the images: 511 pixels on a map of 128 are no whole number for each cell.
    """

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        return self.bbox_head.loss(self.extract_feat(images), targets, images.shape[-2:])

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        return self.bbox_head.predict(self.extract_feat(images), metas, rescale, images.shape[-2:])


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
