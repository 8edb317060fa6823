"""`mmcv.ops`, where calls differ from OmniDet's; nothing is compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from omnidet.nn import deform_conv
from omnidet.ops import nms as ours
from omnidet.ops.corner_pool import corner_pool
from omnidet.ops.ms_deform_attn import ms_deform_attn
from omnidet.ops.points import sample_maps


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0, score_threshold: float = 0,
        max_num: int = -1) -> tuple[Tensor, Tensor]:
    """Suppress boxes (K, 4) of one class: (K', 5) with scores, best first, and their indices."""
    if score_threshold > 0:
        chosen = (scores > score_threshold).nonzero()[:, 0]
        dets, inside = nms(boxes[chosen], scores[chosen], iou_threshold, offset, 0, max_num)
        return dets, chosen[inside]
    kept = ours.hard_nms(_grown(boxes, offset), scores, torch.zeros_like(scores, dtype=torch.long), max_num,
                         iou_threshold=iou_threshold)
    return torch.cat([boxes[kept.keep], kept.scores[:, None]], 1), kept.keep


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, nms_cfg: Mapping[str, Any] | None,
                class_agnostic: bool = False) -> tuple[Tensor, Tensor]:
    """Suppress boxes within their classes `idxs`: (K', 5) with scores, best first, and their indices."""
    if nms_cfg is None:
        kept = ours.suppress(boxes, scores, idxs, None)
    else:
        kept = ours.batched_nms(boxes, scores, idxs, **{'class_agnostic': class_agnostic, **nms_cfg})
    return torch.cat([boxes[kept.keep], kept.scores[:, None]], 1), kept.keep


def soft_nms(boxes: Tensor, scores: Tensor, iou_threshold: float = 0.3, sigma: float = 0.5, min_score: float = 1e-3,
             method: str = 'linear', offset: int = 0) -> tuple[Tensor, Tensor]:
    """Lower the scores of overlapping boxes: (K', 5) with new scores, best first, and their indices."""
    kept = ours.batched_nms(_grown(boxes, offset), scores, torch.zeros_like(scores, dtype=torch.long), type='soft_nms',
                            iou_threshold=iou_threshold, sigma=sigma, min_score=min_score, method=method)
    return torch.cat([boxes[kept.keep], kept.scores[:, None]], 1), kept.keep


def multiclass_nms(multi_bboxes: Tensor, multi_scores: Tensor, score_thr: float, nms_cfg: Mapping[str, Any],
                   max_num: int = -1, score_factors: Tensor | None = None, return_inds: bool = False) -> Any:
    """Detections (K, 5) and labels from scores (M, K + 1) whose last column is background."""
    scores = multi_scores[:, :-1] if score_factors is None else multi_scores[:, :-1] * score_factors[:, None]
    found = ours.multiclass_nms(multi_bboxes, scores, score_thr, nms_cfg, max_num)
    boxes, values, labels, prior = found
    dets = torch.cat([boxes, values[:, None]], 1)
    return (dets, labels, prior * scores.shape[1] + labels) if return_inds else (dets, labels)


def _grown(boxes: Tensor, offset: int) -> Tensor:
    """Boxes whose last pixels count as theirs, where `offset` is 1."""
    return boxes if offset == 0 else boxes + boxes.new_tensor([0, 0, offset, offset])


class CornerPool(nn.Module):
    """Corner pooling; see `omnidet.ops.corner_pool`.

    Args:
        mode: 'top', 'bottom', 'left' or 'right'.
    """

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return corner_pool(x, self.mode)


class DeformConv2d(deform_conv.DeformConv2d):
    """A deformable convolution that is given its offsets, with mmcv's arguments. Parameters: weight, bias.

    How many groups of channels share offsets is seen by the offsets: `deform_groups`, its older name and `im2col_step`
    are accepted.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, deform_groups: int = 1, bias: bool = False,
                 im2col_step: int = 32, deformable_groups: int | None = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)


class ModulatedDeformConv2d(deform_conv.DeformConv2d):
    """A modulated deformable convolution that is given its offsets and factors; see `DeformConv2d`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, deform_groups: int = 1, bias: bool = True,
                 deformable_groups: int | None = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:    # type: ignore[override]
        return self.sample(x, offset, mask)


def deform_conv2d(input: Tensor, offset: Tensor, weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                  groups: int = 1, deform_groups: int = 1, bias: bool = False, im2col_step: int = 32) -> Tensor:
    """A deformable convolution at given offsets."""
    return torchvision.ops.deform_conv2d(input, offset, weight, None, _pair(stride), _pair(padding), _pair(dilation))


def modulated_deform_conv2d(input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None,
                            stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
                            deform_groups: int = 1) -> Tensor:
    """A modulated deformable convolution at given offsets and factors."""
    return torchvision.ops.deform_conv2d(input, offset, weight, bias, _pair(stride), _pair(padding), _pair(dilation),
                                         mask)


def multi_scale_deformable_attn_pytorch(value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor,
                                        attention_weights: Tensor) -> Tensor:
    """(B, S, M, C / M) values at locations (B, Q, M, L, P, 2), weighted (B, Q, M, L, P) -> (B, Q, C)."""
    shapes = [(int(h), int(w)) for h, w in value_spatial_shapes.tolist()]
    return ms_deform_attn(value, shapes, sampling_locations, attention_weights)


def point_sample(input: Tensor, points: Tensor, align_corners: bool = False, **kwargs: Any) -> Tensor:
    """(B, C, H, W) at points (B, P, 2) in 0..1 as x, y -> (B, C, P)."""
    return sample_maps(input, points)


class SigmoidFocalLoss(nn.Module):
    """`sigmoid_focal_loss` as a module."""

    def __init__(self, gamma: float, alpha: float, weight: Tensor | None = None, reduction: str = 'mean') -> None:
        super().__init__()
        self.gamma, self.alpha, self.reduction = gamma, alpha, reduction
        self.weight: Tensor | None
        self.register_buffer('weight', weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        from omnidet.compat.losses import sigmoid_focal_loss
        loss = sigmoid_focal_loss(input, target, self.gamma, self.alpha, None, 'none')
        if self.weight is not None:
            loss = loss * self.weight
        return loss if self.reduction == 'none' else loss.sum() / (len(input) if self.reduction == 'mean' else 1)


def gaussian_radius(det_size: tuple[float, float], min_overlap: float = 0.7) -> float:
    """The radius of an object's Gaussian from its (h, w): a corner that far off still gives `min_overlap`."""
    from omnidet.models.parts.heatmaps import gaussian_radius as radius
    h, w = (torch.tensor(float(side), dtype=torch.float64) for side in det_size)
    found = float(radius(h, w, min_overlap))
    return found if math.isfinite(found) else 0.0
