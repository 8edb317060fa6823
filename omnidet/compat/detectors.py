"""Detectors to derive from, with the order of arguments that MMDetection's have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omnidet.models.detectors import single_stage, two_stage

Cfg = Mapping[str, Any]


class SingleStageDetector(single_stage.SingleStageDetector):
    """OmniDet's detector with one stage; `pretrained` is read from the config of the backbone alone."""

    def __init__(self, backbone: Cfg, neck: Cfg | None = None, bbox_head: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, pretrained: str | None = None) -> None:
        super().__init__(backbone, bbox_head or {}, neck, train_cfg, test_cfg, None, init_cfg)


class TwoStageDetector(two_stage.TwoStageDetector):
    """OmniDet's detector with two stages; `pretrained` is read from the config of the backbone alone."""

    def __init__(self, backbone: Cfg, neck: Cfg | None = None, rpn_head: Cfg | None = None,
                 roi_head: Cfg | None = None, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 data_preprocessor: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 pretrained: str | None = None) -> None:
        super().__init__(backbone, neck, rpn_head, roi_head, train_cfg, test_cfg, None, init_cfg)
