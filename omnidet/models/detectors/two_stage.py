"""Detectors with two stages: backbone, neck, a head that proposes boxes, and RoI heads that look at them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError, DatasetError
from omnidet.models.detectors.base import BaseDetector
from omnidet.registry import DENSE_HEADS, DETECTORS, ROI_HEADS, check_arguments
from omnidet.structures import ImageMeta, Proposals, Result, Targets

Cfg = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TwoStageTraining:
    """The detector's `train_cfg`.

    Attributes:
        rpn: the `train_cfg` of the head that proposes.
        rpn_proposal: what it proposes to the second stage in training; as `test_cfg.rpn` where None.
        rcnn: the `train_cfg` of the RoI head, or one for each of its stages.
    """

    rpn: Cfg | None = None
    rpn_proposal: Cfg | None = None
    rcnn: Cfg | Sequence[Cfg] | None = None


@dataclasses.dataclass(frozen=True)
class TwoStageTesting:
    """The detector's `test_cfg`: `rpn` for the head that proposes, `rcnn` for the RoI head."""

    rpn: Cfg | None = None
    rcnn: Cfg | None = None


@DETECTORS.register
class TwoStageDetector(BaseDetector):
    """Backbone, neck, proposals and RoI heads (Faster R-CNN, arXiv:1506.01497).

    Parameters: backbone, neck, rpn_head, roi_head.

    Args:
        backbone, neck: the parts.
        rpn_head: the dense head that proposes; it is built for one class. Where None, proposals come with the data.
        roi_head: the second stage.
        train_cfg: the fields of `TwoStageTraining`, handed to the heads where they have none of their own.
        test_cfg: the fields of `TwoStageTesting`, likewise.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.

    Raises:
        ConfigError: no RoI head, or a field of `train_cfg` or `test_cfg` that does not exist.
    """

    def __init__(self, backbone: Cfg, neck: Cfg | None = None, rpn_head: Cfg | None = None,
                 roi_head: Cfg | None = None, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 data_preprocessor: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(backbone, neck)
        check_arguments(TwoStageTraining, train_cfg or {})
        check_arguments(TwoStageTesting, test_cfg or {})
        training, testing = TwoStageTraining(**(train_cfg or {})), TwoStageTesting(**(test_cfg or {}))
        if roi_head is None:
            raise ConfigError(f'{type(self).__name__} needs a roi_head')
        self.rpn_head = None if rpn_head is None else DENSE_HEADS.build(
            {**rpn_head, **({'num_classes': 1} if 'num_classes' in rpn_head else {})},
            train_cfg=training.rpn, test_cfg=testing.rpn)
        self.roi_head = ROI_HEADS.build(roi_head, train_cfg=training.rcnn, test_cfg=testing.rcnn)
        self.proposal_cfg = training.rpn_proposal if training.rpn_proposal is not None else testing.rpn

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images; the first stage's names begin with or contain `rpn`."""
        feats = self.extract_feat(images)
        if self.rpn_head is None:
            return self.roi_head.loss(feats, _given_for_training(targets), targets)
        objects = dataclasses.replace(targets, labels=torch.zeros_like(targets.labels))    # of no class yet
        losses, proposals = self.rpn_head.loss_and_propose(feats, objects, self.proposal_cfg)
        losses = {name if 'rpn' in name else f'rpn_{name}': value for name, value in losses.items()}
        return {**losses, **self.roi_head.loss(feats, proposals, targets)}

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        feats = self.extract_feat(images)
        proposals = _given(metas, images.device) if self.rpn_head is None else self.rpn_head.propose(feats, metas)
        return self.roi_head.predict(feats, proposals, metas, rescale)


@DETECTORS.register
class FasterRCNN(TwoStageDetector):
    """Faster R-CNN (arXiv:1506.01497): see `TwoStageDetector`."""


@DETECTORS.register
class MaskRCNN(TwoStageDetector):
    """Mask R-CNN (arXiv:1703.06870): see `TwoStageDetector`."""


@DETECTORS.register
class CascadeRCNN(TwoStageDetector):
    """Cascade R-CNN (arXiv:1712.00726): see `TwoStageDetector`."""


@DETECTORS.register
class FastRCNN(TwoStageDetector):
    """Fast R-CNN (arXiv:1504.08083), which is handed its proposals with the data.

    Args:
        backbone, roi_head, train_cfg, test_cfg, neck, data_preprocessor, init_cfg: see `TwoStageDetector`.
    """

    def __init__(self, backbone: Cfg, roi_head: Cfg, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 neck: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(backbone, neck, None, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg)


def _given_for_training(targets: Targets) -> Proposals:
    if targets.proposals is None or targets.proposals_valid is None:
        raise DatasetError('the model has no rpn_head and needs proposals with the data: a proposal_file of the '
                           "data set, and dict(type='LoadProposals') in the pipeline")
    boxes = targets.proposals
    return Proposals(boxes, targets.proposals_valid, boxes.new_zeros(boxes.shape[:2]))


def _given(metas: Sequence[ImageMeta], device: torch.device) -> Proposals:
    """What the images come with, padded to one number."""
    missing = [meta.img_path or meta.img_id for meta in metas if meta.proposals is None]
    if missing:
        raise DatasetError(f'the model has no rpn_head and needs proposals with each image; there are none for '
                           f"{missing[0]}: the data set needs a proposal_file, the pipeline dict(type='LoadProposals')")
    boxes = [torch.as_tensor(meta.proposals, dtype=torch.float32, device=device).reshape(-1, 4) for meta in metas]
    padded = nn.utils.rnn.pad_sequence(boxes, batch_first=True)    # (B, R, 4)
    counts = torch.tensor([len(b) for b in boxes], device=device)
    valid = torch.arange(padded.shape[1], device=device) < counts[:, None]
    return Proposals(padded, valid, padded.new_zeros(valid.shape))
