"""Branches that are left out at random."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Leaves out a whole branch, for each image by itself, while training (stochastic depth, arXiv:1603.09382).

    What is kept is divided by the probability of keeping it, so the mean stays.

    Args:
        drop_prob: the probability of leaving out.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = float(drop_prob)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.drop_prob == 0:
            return x
        kept = x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.drop_prob)
        return x * (kept / (1 - self.drop_prob) if self.drop_prob < 1 else kept)


def drop_path_rates(last: float, depths: list[int]) -> list[list[float]]:
    """For each stage the rates of its blocks: they grow from 0 at the first of all blocks to `last` at the last."""
    total, rates, start = sum(depths), [], 0
    for depth in depths:
        rates.append([last * i / max(total - 1, 1) for i in range(start, start + depth)])
        start += depth
    return rates
