"""Non-maximum suppression."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import Tensor

from omnidet.errors import ConfigError

NMS_TYPES = ('nms',)


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, *, type: str = 'nms', iou_threshold: float = 0.5,
                class_agnostic: bool = False, max_num: int = -1, **other: Any) -> Tensor:
    """Indices of the boxes to keep, best first: a box goes when a better one of its class overlaps it by more.

    Args:
        boxes: (K, 4) xyxy.
        scores: (K,).
        labels: (K,) int64.
        type: how boxes are suppressed; the other keywords are those of a config's `nms=dict(...)`.
        iou_threshold: the IoU above which the worse box goes.
        class_agnostic: suppress boxes of other classes as well.
        max_num: the most indices to return; all where negative.

    Raises:
        ConfigError: a type or an option that does not exist.
    """
    other.pop('split_thr', None)    # a memory limit elsewhere; the result does not depend on it
    if type not in NMS_TYPES or other:
        raise ConfigError(f'nms: there is no type {type!r} with the options {sorted(other)}; allowed is '
                          f"dict(type='nms', iou_threshold=..., class_agnostic=..., max_num=...)")
    boxes, scores = boxes.float(), scores.float()
    if class_agnostic:
        keep = torchvision.ops.nms(boxes, scores, iou_threshold)
    else:
        keep = torchvision.ops.batched_nms(boxes, scores, labels, iou_threshold)
    return keep[:max_num] if max_num >= 0 else keep
