"""Adaptive training sample selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from omnidet.models.parts.assigners.batches import by_images
from omnidet.models.parts.assigners.takers import best_takers
from omnidet.ops.boxes import box_center
from omnidet.registry import ASSIGNERS, IOU_CALCULATORS
from omnidet.structures import Assignment, Predictions, Priors, Targets


@ASSIGNERS.register
class ATSSAssigner:
    """An object takes the near priors whose overlap stands out among them (ATSS, arXiv:1912.02424, algorithm 1).

    On each level the `topk` priors whose centres lie nearest to the object's are candidates. Those are positive whose
    IoU reaches the candidates' mean plus standard deviation and whose centre lies in the object. A prior that several
    objects take goes to the one that it overlaps most.

    Args:
        topk: candidates of each level.
        alpha: with it, the overlap is sigmoid(logit of the object's class)^(1 - alpha) times the predicted box's
            IoU^alpha (DDOD, arXiv:2107.02963, equation 1); without it, the prior's IoU.
        iou_calculator: how overlap is measured.
        ignore_iof_thr: a prior is ignored where more than this part of it lies in an ignored box (a crowd); negative
            ignores none.
    """

    def __init__(self, topk: int, alpha: float | None = None,
                 iou_calculator: Mapping[str, Any] = {'type': 'BboxOverlaps2D'}, ignore_iof_thr: float = -1) -> None:
        self.topk, self.alpha, self.ignore_iof_thr = topk, alpha, ignore_iof_thr
        self.iou = IOU_CALCULATORS.build(iou_calculator)

    @property
    def needs_predictions(self) -> bool:
        return self.alpha is not None

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, inside: Tensor,
                 preds: Predictions | None = None) -> Assignment:
        """Assign.

        Args:
            priors: N priors.
            targets: B images with up to G objects.
            inside: (B, N) bool, the priors to train on; the others come out as ignored.
            preds: what the head predicts; looked at where there is an `alpha`.

        Returns:
            The assignment; its score is the overlap of a positive prior with its object.
        """
        return by_images(self._assign, priors, targets, inside, preds)

    def _assign(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions | None) -> Assignment:
        if self.ignore_iof_thr > 0:
            part = self.iou(priors.boxes, targets.boxes, mode='iof')    # (B, N, G)
            inside = inside & ~((part > self.ignore_iof_thr) & targets.ignore[:, None]).any(-1)
        index, near = self._candidates(priors, targets, inside)    # (B, G, C)
        overlap = self._overlap(priors, targets, index, preds) * near
        count = near.sum(-1, keepdim=True)
        mean = overlap.sum(-1, keepdim=True) / count.clamp(min=1)
        variance = ((overlap - mean).square() * near).sum(-1, keepdim=True) / (count - 1).clamp(min=1)
        boxes, points = targets.boxes[:, :, None], box_center(priors.boxes)[index]    # (B, G, 1, 4), (B, G, C, 2)
        in_object = torch.minimum(points - boxes[..., :2], boxes[..., 2:] - points).amin(-1) > 0.01
        stands_out = (overlap >= mean + variance.sqrt()) & (count > 1)
        taken = near & stands_out & in_object & targets.valid[..., None]
        return best_takers(index, taken, overlap, inside)

    def _candidates(self, priors: Priors, targets: Targets, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest priors of each level: their indices (B, G, C), and whether they may be trained on."""
        centers, middles = box_center(priors.boxes), box_center(targets.boxes)[:, :, None]
        found, start = [], 0
        for size in priors.level_sizes:
            level = slice(start, start + size)
            distance = (centers[level] - middles).square().sum(-1).sqrt()    # (B, G, size)
            distance = distance.masked_fill(~inside[:, None, level], torch.inf)
            nearest, index = distance.topk(min(self.topk, size), largest=False)
            found.append((index + start, nearest.isfinite()))
            start += size
        return torch.cat([i for i, _ in found], -1), torch.cat([n for _, n in found], -1)

    def _overlap(self, priors: Priors, targets: Targets, index: Tensor, preds: Predictions | None) -> Tensor:
        """(B, G, C) of each object with its candidates."""
        gt = targets.boxes[:, :, None]    # (B, G, 1, 4)
        if self.alpha is None or preds is None:
            return self.iou(gt, priors.boxes[index])[:, :, 0]
        image = torch.arange(len(index), device=index.device)[:, None, None]
        iou = self.iou(gt, preds.boxes[image, index].float())[:, :, 0]
        p = preds.logits[image, index, targets.labels[..., None]].float().sigmoid()
        return p ** (1 - self.alpha) * iou ** self.alpha
