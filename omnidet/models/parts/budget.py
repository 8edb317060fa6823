"""A fixed number of places for a number of candidates that only the device knows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Chosen(NamedTuple):
    """Some of each image's candidates.

    Attributes:
        index: (B, P) int64 into the candidates, always a safe index.
        weight: (B, P) float, 0 for a place that holds no candidate. Where an image has more candidates than places
            it is how many each chosen one stands for, so that weighted sums keep their expected values; else 1.
    """

    index: Tensor
    weight: Tensor


def choose(candidates: Tensor, most: int) -> Chosen:
    """Pick at most `most` candidates of each image: all that there are, or some by chance.

    A mask is costly, and how many objects there are is known on the device alone: with a fixed number of places a step
    never waits for it, and its memory stays flat.

    Args:
        candidates: (B, N) bool.
        most: places for each image.
    """
    B, N = candidates.shape
    count = candidates.sum(1, keepdim=True)    # (B, 1)
    if most >= N:
        return Chosen(torch.arange(N, device=candidates.device).expand(B, N), candidates.float())
    index = torch.rand(B, N, device=candidates.device).add_(candidates.float()).topk(most).indices    # (B, P)
    weight = candidates.gather(1, index) * (count / count.clamp(1, most))
    return Chosen(index, weight)
