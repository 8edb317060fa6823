"""How elementwise losses become one number."""

from __future__ import annotations

from torch import Tensor

from omnidet.errors import ConfigError

REDUCTIONS = ('none', 'mean', 'sum')


def weighted(loss: Tensor, weight: Tensor | None = None, reduction: str = 'mean',
             avg_factor: Tensor | float | None = None) -> Tensor:
    """Weigh a loss and reduce it.

    Args:
        loss: (...,) of every element.
        weight: of the loss's shape, or of its first dimensions; None for 1.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: what a mean divides by; the number of elements where None.

    Raises:
        ConfigError: an unknown reduction, or 'sum' together with an `avg_factor`.
    """
    if reduction not in REDUCTIONS or (reduction == 'sum' and avg_factor is not None):
        raise ConfigError(f'a loss cannot be reduced by {reduction!r}'
                          f'{" with an avg_factor" if avg_factor is not None else ""}; allowed are {REDUCTIONS}')
    if weight is not None:
        loss = loss * weight.reshape(weight.shape + (1,) * (loss.ndim - weight.ndim))
    if reduction == 'none':
        return loss
    total = loss.sum()
    if reduction == 'sum':
        return total
    return total / (max(loss.numel(), 1) if avg_factor is None else avg_factor)
