"""From the scores and boxes of RoIs to the detections of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.ops.nms import suppress
from omnidet.structures import Result

Decode = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RoIPostprocess:
    """A RoI head's `test_cfg`, and what it asks for.

    Attributes:
        score_thr: the score that a candidate must exceed.
        nms: what suppresses overlapping boxes: `dict(type='nms', iou_threshold=...)`; nothing where None.
        max_per_img: the most detections of an image; all where not positive.
        mask_thr_binary: the probability from which a pixel belongs to a mask.
        min_bbox_size: the side in pixels of the batch that a box must exceed; negative keeps every box.
    """

    score_thr: float = 0.0
    nms: Mapping[str, Any] | None = None
    max_per_img: int = -1
    mask_thr_binary: float = 0.5
    min_bbox_size: float = -1

    def __post_init__(self) -> None:
        if self.nms is not None and 'type' not in self.nms:
            raise ConfigError("test_cfg.rcnn.nms needs a type, such as dict(type='nms', iou_threshold=0.5); "
                              f'found {dict(self.nms)}')

    def __call__(self, scores: Tensor, decode: Decode) -> Result:
        """The detections of one image.

        Args:
            scores: (R, K) in 0..1 of its RoIs.
            decode: (indices (k,) of RoIs, classes (k,)) -> boxes (k, 4); asked for the candidates alone.

        Returns:
            Boxes in pixels of the batch.
        """
        roi, label = (scores > self.score_thr).nonzero(as_tuple=True)
        score, boxes = scores[roi, label], decode(roi, label)
        if self.min_bbox_size >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > self.min_bbox_size).all(-1)
            boxes, score, label = boxes[large], score[large], label[large]
        keep, score = suppress(boxes, score, label, self.nms, self.max_per_img)
        return Result(boxes[keep], score, label[keep])
