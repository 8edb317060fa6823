"""The mean of a discrete distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Integral(nn.Module):
    """The distances to a box's sides as means of distributions over 0 to `reg_max` (arXiv:2006.04388, equation 5).

    Buffers: project, the numbers 0 to `reg_max`, which checkpoints hold.
    """

    project: Tensor

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.register_buffer('project', torch.linspace(0, reg_max, reg_max + 1))

    def forward(self, logits: Tensor) -> Tensor:
        """(..., 4 (reg_max + 1)) logits -> (..., 4)."""
        return logits.unflatten(-1, (4, len(self.project))).softmax(-1) @ self.project.type_as(logits)
