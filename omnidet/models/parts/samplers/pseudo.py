"""No sampling at all."""

from __future__ import annotations

from omnidet.registry import SAMPLERS
from omnidet.structures import Assignment


@SAMPLERS.register
class PseudoSampler:
    """Keep every prior.

    Args:
        num, pos_fraction, neg_pos_ub: accepted as configs carry them.
        add_gt_as_proposals: accepted as configs carry it; nothing is added.
        context: accepted as configs carry it.
    """

    needs_losses = False
    num = None
    pos_fraction = 1.0
    add_gt_as_proposals = False

    def __init__(self, num: int | None = None, pos_fraction: float | None = None, neg_pos_ub: int = -1,
                 add_gt_as_proposals: bool = False, context: object = None) -> None:
        pass

    def __call__(self, assignment: Assignment) -> Assignment:
        return assignment


@SAMPLERS.register
class MaskPseudoSampler(PseudoSampler):
    """Keep every query: `PseudoSampler` by the name that the configs of mask classification know it."""
