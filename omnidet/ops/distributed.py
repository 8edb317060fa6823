"""Reductions over the processes of a run; nothing happens where there is one process."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def reduce_mean(value: Tensor) -> Tensor:
    """The mean of `value` over all processes, without gradient; `value` itself in a single process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()
