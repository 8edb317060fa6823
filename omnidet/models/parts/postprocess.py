"""From scores and boxes at every prior to the detections of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.ops.nms import suppress
from omnidet.structures import ImageMeta, Result

Decode = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GridPostprocess:
    """A grid head's `test_cfg`, and what it asks for.

    Attributes:
        nms_pre: the most candidates (prior and class) that each level of an image hands on; all where not positive.
        min_bbox_size: the side in pixels that a box must exceed; negative keeps every box.
        score_thr: the score that a candidate must exceed.
        nms: what suppresses overlapping boxes: `dict(type='nms', iou_threshold=...)`; nothing where None.
        max_per_img: the most detections of an image; all where not positive.
        nms_post, nms_across_levels: accepted as configs carry them.
    """

    nms_pre: int = -1
    min_bbox_size: float = -1
    score_thr: float = 0.0
    nms: Mapping[str, Any] | None = None
    max_per_img: int = -1
    nms_post: int = -1
    nms_across_levels: bool = False

    def __post_init__(self) -> None:
        if self.nms is not None and 'type' not in self.nms:
            raise ConfigError("test_cfg.nms needs a type, such as dict(type='nms', iou_threshold=0.6); "
                              f'found {dict(self.nms)}')

    def __call__(self, scores: Tensor, deltas: Tensor, level_sizes: Sequence[int], decode: Decode,
                 metas: Sequence[ImageMeta], rescale: bool, quality: Tensor | None = None) -> list[Result]:
        """The detections of each image.

        Args:
            scores: (B, N, K) in 0..1.
            deltas: (B, N, R), what `decode` takes.
            level_sizes: how many of the N priors each level has.
            decode: (indices (M,) of priors, deltas (M, R), (h, w) to clip to) -> boxes (M, 4) in the batch's pixels.
            metas: B, for the size to clip to and the way back to the file's pixels.
            rescale: give boxes in pixels of the file, not of the batch.
            quality: (B, N) in 0..1, a factor of the chosen candidates' scores; they are chosen without it.
        """
        return [result for result, _ in self.with_priors(scores, deltas, level_sizes, decode, metas, rescale, quality)]

    def with_priors(self, scores: Tensor, deltas: Tensor, level_sizes: Sequence[int], decode: Decode,
                    metas: Sequence[ImageMeta], rescale: bool, quality: Tensor | None = None
                    ) -> list[tuple[Result, Tensor]]:
        """The detections of each image, and the prior (R,) int64 that each of them came from; see `__call__`."""
        factors = [None] * len(metas) if quality is None else quality
        return [self._image(s, d, level_sizes, decode, meta, rescale, factor)
                for s, d, meta, factor in zip(scores, deltas, metas, factors, strict=True)]

    def _image(self, scores: Tensor, deltas: Tensor, level_sizes: Sequence[int], decode: Decode, meta: ImageMeta,
               rescale: bool, quality: Tensor | None) -> tuple[Result, Tensor]:
        K = scores.shape[-1]
        best, at, start = [], [], 0
        for size, level in zip(level_sizes, scores.split(list(level_sizes)), strict=True):
            flat = level.flatten()
            index = (flat > self.score_thr).nonzero()[:, 0]
            kept = flat[index]
            if 0 < self.nms_pre < len(kept):
                kept, order = kept.topk(self.nms_pre)
                index = index[order]
            best.append(kept)
            at.append(index + start * K)
            start += size
        score, index = torch.cat(best), torch.cat(at)
        prior, label = torch.div(index, K, rounding_mode='floor'), index % K
        if quality is not None:
            score = score * quality[prior]
        boxes = decode(prior, deltas[prior].float(), deltas.new_tensor(meta.img_shape, dtype=torch.float32))
        return self._finish(boxes, score.float(), label, prior, meta, rescale)

    def _finish(self, boxes: Tensor, scores: Tensor, labels: Tensor, priors: Tensor, meta: ImageMeta,
                rescale: bool) -> tuple[Result, Tensor]:
        if rescale:
            boxes = boxes / boxes.new_tensor([*meta.scale_factor, *meta.scale_factor])
        if self.min_bbox_size >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > self.min_bbox_size).all(-1)
            boxes, scores, labels, priors = boxes[large], scores[large], labels[large], priors[large]
        keep, scores = suppress(boxes, scores, labels, self.nms, self.max_per_img)
        return Result(boxes[keep], scores, labels[keep]), priors[keep]


@dataclass(frozen=True)
class MaskPostprocess(GridPostprocess):
    """The `test_cfg` of a grid head whose detections have masks.

    Attributes:
        mask_thr, mask_thr_binary: the probability that a mask's pixel must exceed, in either spelling.
    """

    mask_thr: float = 0.5
    mask_thr_binary: float | None = None

    @property
    def pixel_thr(self) -> float:
        """The probability that a mask's pixel must exceed."""
        return self.mask_thr if self.mask_thr_binary is None else self.mask_thr_binary
