"""The loss that teaches two corners whether they belong to one object."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.registry import LOSSES

MARGIN = 1.0
"""How far apart the embeddings of two objects are meant to be (arXiv:1808.01244, section 3.3)."""


@LOSSES.register
class AssociativeEmbeddingLoss(nn.Module):
    """Pull the embeddings of an object's two corners together, and push those of two objects apart.

    With e_k the mean of an object's two embeddings, the first loss is the sum over both corners of (e - e_k)^2, meaned
    over the N objects of an image; the second is max(0, 1 - |e_j - e_k|), meaned over the N (N - 1) ordered pairs of
    two objects (CornerNet, arXiv:1808.01244, equations 4 and 5).

    Args:
        pull_weight, push_weight: factors of the two.
    """

    def __init__(self, pull_weight: float = 0.25, push_weight: float = 0.25) -> None:
        super().__init__()
        self.pull_weight, self.push_weight = pull_weight, push_weight

    def forward(self, top_left: Tensor, bottom_right: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The two losses, added up over the images.

        Args:
            top_left, bottom_right: (B, G, M) embeddings at the corners of each object.
            valid: (B, G) bool, True for an object.

        Returns:
            Pull and push, scalars.
        """
        count = valid.sum(1)    # (B,)
        mean = (top_left + bottom_right) / 2
        pull = ((top_left - mean).square() + (bottom_right - mean).square()).sum(-1) * valid
        distance = (mean[:, :, None] - mean[:, None]).abs().sum(-1)    # (B, G, G)
        itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
        two = valid[:, :, None] & valid[:, None] & ~itself
        push = (F.relu(MARGIN - distance) * two).sum((1, 2)) / (count * (count - 1)).clamp(min=1)
        return self.pull_weight * (pull.sum(1) / count.clamp(min=1)).sum(), self.push_weight * push.sum()
