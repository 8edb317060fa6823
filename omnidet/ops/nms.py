"""Non-maximum suppression, hard and soft, within classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor

from omnidet.errors import ConfigError, did_you_mean

SOFT_METHODS = ('linear', 'gaussian', 'naive')


class Kept(NamedTuple):
    """What suppression leaves, best first.

    Attributes:
        keep: (R,) int64 into the boxes.
        scores: (R,) float; lower than they were where suppression is soft.
    """

    keep: Tensor
    scores: Tensor


class ClassDetections(NamedTuple):
    """What `multiclass_nms` leaves, best first.

    Attributes:
        boxes: (R, 4) xyxy.
        scores: (R,) float.
        labels: (R,) int64.
        prior: (R,) int64, the row each detection came from.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    prior: Tensor


def hard_nms(boxes: Tensor, scores: Tensor, labels: Tensor, max_num: int = -1, *,
             iou_threshold: float = 0.5) -> Kept:
    """A box goes when a better one of its class overlaps it by more than `iou_threshold`; see `batched_nms`."""
    index = torchvision.ops.batched_nms(boxes, scores, labels, iou_threshold)
    index = index[:max_num] if max_num >= 0 else index
    return Kept(index, scores[index])


def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, max_num: int = -1, *, iou_threshold: float = 0.3,
             sigma: float = 0.5, min_score: float = 1e-3, method: str = 'linear') -> Kept:
    """A box's score falls with its overlap with each better one of its class (arXiv:1704.04503).

    Args:
        boxes, scores, labels, max_num: as `batched_nms`.
        iou_threshold: the IoU above which 'linear' and 'naive' act.
        sigma: width of the Gaussian.
        min_score: the score below which a box goes.
        method: the factor is 1 - IoU with 'linear', exp(-IoU^2 / sigma) with 'gaussian', 0 with 'naive'.

    Raises:
        ConfigError: an unknown method.
    """
    if method not in SOFT_METHODS:
        raise ConfigError(f'nms.method is {method!r}; allowed are {SOFT_METHODS}')
    device = boxes.device
    # One pick depends on the last: a loop of tiny steps, which a CPU walks faster than a GPU.
    boxes, scores, labels = boxes.cpu(), scores.cpu().clone(), labels.cpu()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    several = bool((labels != labels[:1]).any())
    picks, found = [], []
    for _ in range(len(boxes) if max_num < 0 else min(max_num, len(boxes))):
        score, at = scores.max(0)
        if score < min_score:
            break
        picks.append(at)
        found.append(score)
        box = boxes[at]
        width = (torch.minimum(boxes[:, 2], box[2]) - torch.maximum(boxes[:, 0], box[0])).clamp_(min=0)
        inter = width.mul_((torch.minimum(boxes[:, 3], box[3]) - torch.maximum(boxes[:, 1], box[1])).clamp_(min=0))
        iou = inter / (area + area[at] - inter).clamp_(min=1e-12)
        if method == 'gaussian':
            factor = (iou.square() / -sigma).exp_()
        else:
            factor = (1 - iou if method == 'linear' else torch.zeros_like(iou)).masked_fill_(iou <= iou_threshold, 1)
        if several:
            factor.masked_fill_(labels != labels[at], 1)
        scores *= factor
        scores[at] = -1
    if not picks:
        return Kept(torch.zeros(0, dtype=torch.long, device=device), scores.new_zeros(0).to(device))
    return Kept(torch.stack(picks).to(device), torch.stack(found).to(device))


NMS: Mapping[str, Callable[..., Kept]] = {'nms': hard_nms, 'soft_nms': soft_nms}


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, *, type: str = 'nms', class_agnostic: bool = False,
                max_num: int = -1, split_thr: int = 10000, **options: Any) -> Kept:
    """The boxes that suppression within classes leaves; the keywords are those of a config's `nms=dict(...)`.

    Args:
        boxes: (K, 4) xyxy.
        scores: (K,).
        labels: (K,) int64.
        type: 'nms' (see `hard_nms`) or 'soft_nms'.
        class_agnostic: suppress boxes of other classes as well.
        max_num: the most boxes to return; all where negative.
        split_thr: accepted as configs carry it; the result does not depend on it.
        options: of the type; `iou_thr` is an older spelling of `iou_threshold`.

    Raises:
        ConfigError: a type or an option that does not exist.
    """
    function = nms_function(type)
    if 'iou_thr' in options:
        options['iou_threshold'] = options.pop('iou_thr')
    allowed = [k for k, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in allowed:
            known = [*allowed, 'class_agnostic', 'max_num', 'split_thr']
            raise ConfigError(f'nms: {type!r} has no option {key!r}{did_you_mean(key, known) or f"; it has {known}"}')
    labels = torch.zeros_like(labels) if class_agnostic else labels
    return function(boxes.float(), scores.float(), labels, max_num, **options)


def nms_function(type: str) -> Callable[..., Kept]:
    """The suppression that a config's `nms.type` names.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if type not in NMS:
        raise ConfigError(f'nms: there is no type {type!r}{did_you_mean(str(type), NMS)}; allowed are {tuple(NMS)}')
    return NMS[type]


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, nms: Mapping[str, Any] | None, most: int = -1) -> Kept:
    """`batched_nms` as a config's `nms` describes it; without one, all boxes by their score.

    Args:
        boxes, scores, labels: as `batched_nms`.
        nms: the keywords of `batched_nms`, or None.
        most: the most boxes to return; all where not positive.
    """
    if nms is None:
        index = scores.argsort(descending=True)
        index = index[:most] if most > 0 else index
        return Kept(index, scores[index])
    limits = [n for n in (most if most > 0 else -1, nms.get('max_num', -1)) if n >= 0]
    return batched_nms(boxes, scores, labels, **{**nms, 'max_num': min(limits, default=-1)})


def multiclass_nms(boxes: Tensor, scores: Tensor, score_thr: float, nms: Mapping[str, Any] | None,
                   max_per_img: int = -1) -> ClassDetections:
    """Detections of an image from a score of every class for every box: a box may give several.

    Args:
        boxes: (M, 4) xyxy, or (M, K * 4) where each class has its own.
        scores: (M, K) in 0..1, without background.
        score_thr: the score that a detection must exceed.
        nms: the keywords of `batched_nms`; None suppresses nothing.
        max_per_img: the most detections; all where not positive.
    """
    K = scores.shape[1]
    at = (scores > score_thr).flatten().nonzero()[:, 0]
    prior, labels = torch.div(at, K, rounding_mode='floor'), at % K
    chosen = boxes[prior] if boxes.shape[1] == 4 else boxes.reshape(-1, 4)[at]
    kept = suppress(chosen, scores.flatten()[at], labels, nms, max_per_img)
    index = kept.keep
    return ClassDetections(chosen[index], kept.scores, labels[index], prior[index])
