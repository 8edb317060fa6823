"""What it costs to match a query with an object, under the names that an assigner's `match_costs` knows.

All are called with `QueryPredictions` and `QueryTargets` of a batch and return (B, Q, G). Columns of padded objects
have some finite value that means nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.models.parts.queries import QueryPredictions, QueryTargets
from omnidet.ops.boxes import aligned_giou, aligned_iou
from omnidet.ops.relative_boxes import cxcywh_to_xyxy
from omnidet.registry import MATCH_COSTS


def _given(value: Tensor | None, cost: object, name: str) -> Tensor:
    if value is None:
        raise ConfigError(f'{type(cost).__name__}: this head predicts no {name}, so no match cost can use them')
    return value.float()


def _of_labels(cost: Tensor, labels: Tensor) -> Tensor:
    """The columns of (B, Q, K) at the objects' labels (B, G): (B, Q, G)."""
    return cost.gather(2, labels[:, None].expand(-1, cost.shape[1], -1))


@MATCH_COSTS.register
class ClassificationCost:
    """Minus the softmax's probability of the object's class (arXiv:2005.12872, section 3.1).

    Args:
        weight: factor of the cost.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, pred: QueryPredictions, truth: QueryTargets) -> Tensor:
        return -self.weight * _of_labels(pred.logits.float().softmax(-1), truth.labels)


@MATCH_COSTS.register
class FocalLossCost:
    """What the focal loss (arXiv:1708.02002) of a query changes by when it is given the object (arXiv:2010.04159).

    Args:
        alpha: weight of objects against background.
        gamma: the focusing power.
        eps: added to probabilities before their logarithm.
        binary_input: compare masks, averaged over their points, not classes.
        weight: factor of the cost.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2, eps: float = 1e-12, binary_input: bool = False,
                 weight: float = 1.0) -> None:
        self.alpha, self.gamma, self.eps = alpha, gamma, eps
        self.binary_input, self.weight = binary_input, weight

    def __call__(self, pred: QueryPredictions, truth: QueryTargets) -> Tensor:
        p = (_given(pred.masks, self, 'masks') if self.binary_input else pred.logits.float()).sigmoid()
        absent = -(1 - p + self.eps).log() * (1 - self.alpha) * p ** self.gamma
        present = -(p + self.eps).log() * self.alpha * (1 - p) ** self.gamma
        if not self.binary_input:
            return self.weight * _of_labels(present - absent, truth.labels)
        masks = _given(truth.masks, self, 'masks').mT    # (B, P, G)
        return self.weight * (present @ masks + absent @ (1 - masks)) / masks.shape[1]


@MATCH_COSTS.register
class BBoxL1Cost:
    """The L1 distance of boxes in parts of the image (arXiv:2005.12872, equation 9).

    Args:
        box_format: 'xyxy' to compare corners, 'xywh' to compare centres and sizes.
        weight: factor of the cost.
    """

    def __init__(self, box_format: str = 'xyxy', weight: float = 1.0) -> None:
        if box_format not in ('xyxy', 'xywh'):
            raise ConfigError(f"BBoxL1Cost: box_format is {box_format!r}; allowed are 'xyxy' and 'xywh'")
        self.box_format, self.weight = box_format, weight

    def __call__(self, pred: QueryPredictions, truth: QueryTargets) -> Tensor:
        a, b = _given(pred.boxes, self, 'boxes'), _given(truth.boxes, self, 'boxes')
        if self.box_format == 'xyxy':
            a, b = cxcywh_to_xyxy(a), cxcywh_to_xyxy(b)
        return self.weight * torch.cdist(a, b, p=1)


@MATCH_COSTS.register
class IoUCost:
    """Minus the overlap of boxes.

    Args:
        iou_mode: 'iou' or 'giou' (arXiv:1902.09630).
        weight: factor of the cost.
    """

    def __init__(self, iou_mode: str = 'giou', weight: float = 1.0) -> None:
        if iou_mode not in ('iou', 'giou'):
            raise ConfigError(f"IoUCost: iou_mode is {iou_mode!r}; allowed are 'iou' and 'giou'")
        self.overlap = aligned_giou if iou_mode == 'giou' else aligned_iou
        self.weight = weight

    def __call__(self, pred: QueryPredictions, truth: QueryTargets) -> Tensor:
        scale = _given(truth.scale, self, 'boxes')
        a = cxcywh_to_xyxy(_given(pred.boxes, self, 'boxes')) * scale
        b = cxcywh_to_xyxy(_given(truth.boxes, self, 'boxes')) * scale
        return -self.weight * self.overlap(a[:, :, None], b[:, None])


@MATCH_COSTS.register
class CrossEntropyLossCost:
    """The binary cross entropy of masks, averaged over their points (arXiv:2112.01527, section 3.3).

    Args:
        use_sigmoid: must be True: each point is an object's or not.
        weight: factor of the cost.
    """

    def __init__(self, use_sigmoid: bool = True, weight: float = 1.0) -> None:
        if not use_sigmoid:
            raise ConfigError('CrossEntropyLossCost: use_sigmoid is False; only the binary form exists')
        self.weight = weight

    def __call__(self, pred: QueryPredictions, truth: QueryTargets) -> Tensor:
        logits, masks = _given(pred.masks, self, 'masks'), _given(truth.masks, self, 'masks').mT
        present, absent = F.softplus(-logits), F.softplus(logits)
        return self.weight * (present @ masks + absent @ (1 - masks)) / masks.shape[1]


@MATCH_COSTS.register
class DiceCost:
    """One minus the Dice coefficient of masks (arXiv:1606.04797).

    Args:
        pred_act: whether predictions are logits, which a sigmoid makes probabilities.
        eps: added to numerator and denominator.
        naive_dice: divide by the sums of both masks, not of their squares.
        weight: factor of the cost.
    """

    def __init__(self, pred_act: bool = False, eps: float = 1e-3, naive_dice: bool = True, weight: float = 1.0) -> None:
        self.pred_act, self.eps, self.naive_dice, self.weight = pred_act, eps, naive_dice, weight

    def __call__(self, pred: QueryPredictions, truth: QueryTargets) -> Tensor:
        a, b = _given(pred.masks, self, 'masks'), _given(truth.masks, self, 'masks')
        a = a.sigmoid() if self.pred_act else a
        size_a, size_b = (a.sum(-1), b.sum(-1)) if self.naive_dice else (a.square().sum(-1), b.square().sum(-1))
        return self.weight * (1 - (2 * a @ b.mT + self.eps) / (size_a[:, :, None] + size_b[:, None] + self.eps))
