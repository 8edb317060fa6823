"""Assignment of points by the size of what they would have to regress, as FCOS has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.models.parts.assigners.batches import by_images
from omnidet.ops.boxes import box_center
from omnidet.registry import ASSIGNERS
from omnidet.structures import Assignment, Predictions, Priors, Targets

INF = 1e8


@ASSIGNERS.register
class RegressRangeAssigner:
    """A point answers for the smallest object around it whose sides its level is to reach (FCOS, arXiv:1904.01355).

    The farthest of the four sides must lie at a distance within the level's range. A point in the batch's padding is
    background, and so is one in an ignored box.

    Args:
        regress_ranges: (least, greatest) distance in pixels of each level.
        center_sampling: take points alone that lie near an object's centre.
        center_sample_radius: how near, in strides, along each axis.
    """

    needs_predictions = False

    def __init__(self, regress_ranges: Sequence[tuple[float, float]] = ((-1, 64), (64, 128), (128, 256), (256, 512),
                                                                        (512, INF)),
                 center_sampling: bool = False, center_sample_radius: float = 1.5) -> None:
        self.regress_ranges = [(float(low), float(high)) for low, high in regress_ranges]
        self.radius = center_sample_radius if center_sampling else None

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, inside: Tensor,
                 preds: Predictions | None = None) -> Assignment:
        """Assign.

        Args:
            priors: N points.
            targets: B images with up to G objects; ignored ones take no part.
            inside: not looked at.
            preds: not looked at.

        Returns:
            The assignment; its score is 0.

        Raises:
            ConfigError: there are not as many ranges as levels.
        """
        if len(self.regress_ranges) != len(priors.level_sizes):
            raise ConfigError(f'bbox_head.regress_ranges: {len(self.regress_ranges)} ranges for '
                              f'{len(priors.level_sizes)} levels')
        return by_images(self._assign, priors, targets, inside, None)

    def _assign(self, priors: Priors, targets: Targets, inside: Tensor, preds: Predictions | None) -> Assignment:
        low, high = (torch.cat([torch.full((n,), r[end], device=inside.device) for n, r in
                                zip(priors.level_sizes, self.regress_ranges, strict=True)])[:, None] for end in (0, 1))
        boxes, points = targets.boxes[:, None], box_center(priors.boxes)[:, None]    # (B, 1, G, 4), (N, 1, 2)
        lt, rb = boxes[..., :2], boxes[..., 2:]
        reach = torch.maximum(points - lt, rb - points).amax(-1)    # (B, N, G)
        takes = targets.valid[:, None] & (reach >= low) & (reach <= high)
        if self.radius is not None:
            middle, radius = box_center(boxes), (priors.strides * self.radius)[:, None, None]
            lt, rb = torch.maximum(middle - radius, lt), torch.minimum(middle + radius, rb)
        takes = takes & (torch.minimum(points - lt, rb - points).amin(-1) > 0)
        area = (targets.boxes[..., 2:] - targets.boxes[..., :2]).prod(-1)    # (B, G)
        least, gt = area[:, None].masked_fill(~takes, torch.inf).min(-1)
        positive = least < torch.inf
        return Assignment(gt, positive, torch.zeros_like(positive), torch.zeros_like(least))
