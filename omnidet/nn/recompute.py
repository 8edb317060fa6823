"""Less memory for more time: activations that are computed again when the backward pass needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(function: Callable[[Tensor], Tensor], x: Tensor, module: nn.Module) -> Tensor:
    """`function(x)`, keeping nothing of its inside for the backward pass (arXiv:1604.06174).

    Args:
        function: a part of `module`'s forward pass.
        module: its batch norms count what they see once, although they see it twice.
    """
    if not torch.is_grad_enabled():
        return function(x)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(module)
    return checkpoint(function, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 0.0
        m.num_batches_tracked -= 1    # type: ignore[operator]
    try:
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
