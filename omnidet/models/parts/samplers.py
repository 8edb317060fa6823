"""Samplers: which of the assigned priors a loss sees. A sampler is called with an `Assignment` and returns one."""

from __future__ import annotations

from omnidet.registry import SAMPLERS
from omnidet.structures import Assignment


@SAMPLERS.register
class PseudoSampler:
    """Keep every prior."""

    def __call__(self, assignment: Assignment) -> Assignment:
        return assignment
