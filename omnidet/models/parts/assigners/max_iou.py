"""Assignment by overlap, as Faster R-CNN and RetinaNet have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.registry import ASSIGNERS, IOU_CALCULATORS
from omnidet.structures import Assignment, Predictions, Priors, Targets

Cfg = Mapping[str, Any]
Overlap = Callable[[Tensor], Tensor]
BUDGET_CPU, BUDGET_GPU = 2 ** 21, 2 ** 25    # what stays near the cache, and what fills a GPU
IOU: Cfg = {'type': 'BboxOverlaps2D'}


@ASSIGNERS.register
class MaxIoUAssigner:
    """A prior answers for the object it overlaps most, where that is enough (Faster R-CNN, arXiv:1506.01497, 3.1.2).

    It is positive from an IoU of `pos_iou_thr`, background below `neg_iou_thr`, and ignored between. An object's best
    priors are positive for it also below the threshold, from `min_pos_iou`; where two objects claim a prior, the later
    one has it.

    Args:
        pos_iou_thr: the IoU from which a prior is positive.
        neg_iou_thr: the IoU below which it is background, or the (low, high) between which it is.
        min_pos_iou: the IoU from which an object's best prior is positive.
        gt_max_assign_all: give the object every prior that overlaps it as much as its best one, or only the first.
        ignore_iof_thr: a prior is ignored where more than this part of it lies in an ignored box (a crowd); negative
            ignores none.
        ignore_wrt_candidates: measure that part of the prior, or of the ignored box.
        match_low_quality: give an object its best priors below `pos_iou_thr`.
        gpu_assign_thr: accepted as configs carry it; `budget` bounds the memory here.
        iou_calculator: how overlap is measured.
        perm_repeat_gt_cfg: must be None; repeated and shifted objects belong to V3Det's code.
        budget: the most prior-object pairs to hold at a time; by the device where None.
    """

    needs_predictions = False

    def __init__(self, pos_iou_thr: float, neg_iou_thr: float | tuple[float, float], min_pos_iou: float = 0.0,
                 gt_max_assign_all: bool = True, ignore_iof_thr: float = -1, ignore_wrt_candidates: bool = True,
                 match_low_quality: bool = True, gpu_assign_thr: float = -1, iou_calculator: Cfg = IOU,
                 perm_repeat_gt_cfg: Cfg | None = None, budget: int | None = None) -> None:
        if perm_repeat_gt_cfg is not None:
            raise ConfigError(f'MaxIoUAssigner: perm_repeat_gt_cfg is {dict(perm_repeat_gt_cfg)}; only None is known')
        self.pos_iou_thr, self.min_pos_iou = pos_iou_thr, min_pos_iou
        self.neg_range = (0.0, neg_iou_thr) if isinstance(neg_iou_thr, (int, float)) else tuple(neg_iou_thr)
        self.gt_max_assign_all, self.match_low_quality = gt_max_assign_all, match_low_quality
        self.ignore_iof_thr, self.ignore_wrt_candidates = ignore_iof_thr, ignore_wrt_candidates
        self.iou, self.budget = IOU_CALCULATORS.build(iou_calculator), budget

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, inside: Tensor,
                 preds: Predictions | None = None) -> Assignment:
        """Assign.

        Args:
            priors: N priors, the same for all images or each image's own.
            targets: B images with up to G objects.
            inside: (B, N) bool, the priors to train on; the others come out as ignored.
            preds: not looked at.

        Returns:
            The assignment; its score is the prior's largest IoU, with a background prior too.
        """
        boxes = priors.boxes.float()
        return self.match(lambda gt: self.iou(gt, boxes), targets, inside & ~self.in_ignored(boxes, targets))

    def in_ignored(self, boxes: Tensor, targets: Targets) -> Tensor:
        """(B, N) bool: which of the boxes (N, 4) or (B, N, 4) lie in an ignored box."""
        if self.ignore_iof_thr <= 0:
            return torch.zeros((), dtype=torch.bool, device=boxes.device)
        a, b = (boxes, targets.boxes) if self.ignore_wrt_candidates else (targets.boxes, boxes)
        part = self.iou(a, b, mode='iof')
        part = part if self.ignore_wrt_candidates else part.transpose(-1, -2)    # (B, N, G)
        return ((part > self.ignore_iof_thr) & targets.ignore[:, None]).any(-1)

    def match(self, overlap: Overlap, targets: Targets, usable: Tensor) -> Assignment:
        """Assign by any measure of overlap.

        Objects are taken a few at a time: best prior and best object are running maxima, so that the full (B, G, N)
        is never held.

        Args:
            overlap: (B, g, 4) objects -> (B, g, N) overlap with the priors.
            targets: B images with up to G objects.
            usable: (B, N) bool, the priors that take part.
        """
        B, N = usable.shape
        best = torch.full((B, N), -1.0, device=usable.device)
        gt = torch.zeros((B, N), dtype=torch.long, device=usable.device)
        claimed = torch.full_like(gt, -1)    # the last object that has the prior among its best
        budget = self.budget or (BUDGET_CPU if usable.device.type == 'cpu' else BUDGET_GPU)
        step = max(1, budget // max(B * N, 1))
        for start in range(0, targets.boxes.shape[1], step):
            valid = targets.valid[:, start:start + step]
            iou = overlap(targets.boxes[:, start:start + step].float())    # (B, g, N)
            iou = iou.masked_fill_(~valid[..., None], -1).masked_fill_(~usable[:, None], -1)
            top, index = iou.max(1)
            gt = torch.where(top > best, index + start, gt)
            best = torch.maximum(best, top)
            if self.match_low_quality and N > 0:
                claimed = torch.maximum(claimed, self._claims(iou, valid, start))
        positive = (best >= self.pos_iou_thr) & usable | (claimed >= 0)
        low, high = self.neg_range
        background = (best >= low) & (best < high) | ~targets.valid.any(1, keepdim=True)
        gt = torch.where(claimed >= 0, claimed, gt)
        return Assignment(gt, positive, ~(positive | (background & usable)), best.clamp(min=0))

    def _claims(self, iou: Tensor, valid: Tensor, start: int) -> Tensor:
        """(B, N) int64: the last object of (B, g, N) that has the prior among its best, counted from `start`; or -1."""
        top, at = iou.max(-1)    # (B, g)
        enough = valid & (top >= max(self.min_pos_iou, 0))
        number = torch.arange(start, start + iou.shape[1], device=iou.device)
        if self.gt_max_assign_all:
            takes = iou == torch.where(enough, top, 2)[..., None]    # no overlap is 2
            return torch.where(takes, number.to(torch.int32)[:, None], -1).amax(1).long()
        none = torch.full_like(iou[:, 0], -1, dtype=torch.long)
        return none.scatter_reduce(1, at, torch.where(enough, number, -1), 'amax')


@ASSIGNERS.register
class ApproxMaxIoUAssigner:
    """As `MaxIoUAssigner`, with the best IoU of several anchors that stand for a prior (arXiv:1901.03278, section 3.5).

    Arguments as `MaxIoUAssigner`.
    """

    needs_predictions = False

    def __init__(self, pos_iou_thr: float, neg_iou_thr: float | tuple[float, float], min_pos_iou: float = 0.0,
                 gt_max_assign_all: bool = True, ignore_iof_thr: float = -1, ignore_wrt_candidates: bool = True,
                 match_low_quality: bool = True, gpu_assign_thr: float = -1, iou_calculator: Cfg = IOU,
                 perm_repeat_gt_cfg: Cfg | None = None, budget: int | None = None) -> None:
        self.by_iou = MaxIoUAssigner(pos_iou_thr, neg_iou_thr, min_pos_iou, gt_max_assign_all, ignore_iof_thr,
                                     ignore_wrt_candidates, match_low_quality, gpu_assign_thr, iou_calculator,
                                     perm_repeat_gt_cfg, budget)

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions | None = None, *,
                 approxs: Tensor | None = None) -> Assignment:
        """Assign.

        Args:
            priors, targets, inside, preds: see `MaxIoUAssigner`.
            approxs: (N, A, 4), the anchors that stand for each of the N priors; the priors themselves where None.
        """
        if approxs is None:
            return self.by_iou(priors, targets, inside)
        N, A, _ = approxs.shape
        flat, iou = approxs.float().flatten(0, 1), self.by_iou.iou
        usable = inside & ~self.by_iou.in_ignored(priors.boxes.float(), targets)
        return self.by_iou.match(lambda gt: iou(gt, flat).unflatten(-1, (N, A)).amax(-1), targets, usable)
