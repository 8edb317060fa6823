"""From proposals and ground truth to the regions of interest (RoIs) that a stage's losses see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omnidet.structures import Assignment, Priors, Targets

Hardness = Callable[[Tensor, Tensor], Tensor]


class SampledRoIs(NamedTuple):
    """S RoIs of each image with what is to be learned there; in each image the positive ones come first.

    Attributes:
        boxes: (B, S, 4) xyxy in pixels.
        sampled: (B, S) bool, False for rows that only fill up the image's S.
        positive: (B, S) bool, True where the RoI answers for an object.
        gt: (B, S) int64, which of the image's objects; a safe index everywhere.
        gt_boxes: (B, S, 4), the object's box; it means something where positive.
        labels: (B, S) int64: the object's class, or K for background.
        given: (B, S) bool, True where the RoI is an object's own box, and no proposal.
    """

    boxes: Tensor
    sampled: Tensor
    positive: Tensor
    gt: Tensor
    gt_boxes: Tensor
    labels: Tensor
    given: Tensor

    def flatten(self) -> SampledRoIs:
        """The same with (B * S) rows in the place of (B, S)."""
        return SampledRoIs(*(t.flatten(0, 1) for t in self))


@torch.no_grad()
def sample_rois(boxes: Tensor, valid: Tensor, targets: Targets, assigner: Any, sampler: Any, num_classes: int,
                hardness: Hardness | None = None) -> SampledRoIs:
    """Assign proposals to objects and sample some; without a synchronisation with the device.

    Where the sampler asks for it, each object's own box stands before the proposals, assigned to that object.

    Args:
        boxes: (B, R, 4) proposals in pixels.
        valid: (B, R) bool, True for a real proposal.
        targets: the ground truth.
        assigner, sampler: see `omnidet.models.parts`.
        num_classes: K.
        hardness: for a sampler that takes the hardest ones: (boxes (B, N, 4), labels (B, N)) -> their loss (B, N).

    Returns:
        S = min(sampler.num, N) RoIs of each image, N being the proposals and what was added to them.
    """
    assignment = assigner(Priors(boxes, boxes.new_zeros(0), ()), targets, valid, None)
    given = torch.zeros_like(valid)
    if sampler.add_gt_as_proposals:
        boxes, valid, given, assignment = _with_truth(boxes, valid, assignment, targets)
    assignment = assignment._replace(ignored=assignment.ignored | ~valid, positive=assignment.positive & valid)
    labels = torch.where(assignment.positive, targets.labels.gather(1, assignment.gt), num_classes)
    if getattr(sampler, 'needs_losses', False) and hardness is not None:
        assignment = sampler(assignment, hardness(boxes, labels))
    else:
        assignment = sampler(assignment)
    sampled = assignment.positive | ~assignment.ignored
    S = boxes.shape[1] if sampler.num is None else min(sampler.num, boxes.shape[1])
    rank = assignment.positive.int() + sampled.int()
    index = rank.argsort(dim=1, descending=True, stable=True)[:, :S]    # (B, S)
    gt = assignment.gt.gather(1, index)
    return SampledRoIs(_rows(boxes, index), sampled.gather(1, index), assignment.positive.gather(1, index), gt,
                       _rows(targets.boxes, gt), labels.gather(1, index), given.gather(1, index))


def _with_truth(boxes: Tensor, valid: Tensor, assignment: Assignment, targets: Targets
                ) -> tuple[Tensor, Tensor, Tensor, Assignment]:
    """Put each object's own box before the proposals: boxes, valid, which are objects' own, assignment, (B, G + R)."""
    B, G = targets.valid.shape
    own = torch.arange(G, device=boxes.device).expand(B, G)
    truth = Assignment(own, targets.valid, ~targets.valid, targets.valid.to(assignment.score.dtype))
    given = torch.cat([targets.valid, torch.zeros_like(valid)], 1)
    return (torch.cat([targets.boxes.to(boxes.dtype), boxes], 1), torch.cat([targets.valid, valid], 1), given,
            Assignment(*(torch.cat(pair, 1) for pair in zip(truth, assignment, strict=True))))


def _rows(boxes: Tensor, index: Tensor) -> Tensor:
    """(B, N, 4), (B, S) -> (B, S, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))


def as_rois(boxes: Tensor) -> Tensor:
    """(B, S, 4) boxes -> (B * S, 5) with the index of their image before them."""
    B, S = boxes.shape[:2]
    image = torch.arange(B, device=boxes.device, dtype=boxes.dtype).repeat_interleave(S)
    return torch.cat([image[:, None], boxes.flatten(0, 1)], 1)
