"""The loss of sets of predictions: match each set with the objects, then compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from omnidet.models.parts.queries import QueryLayer, QueryPredictions, QueryTargets
from omnidet.structures import Assignment

Matcher = Callable[[Sequence[QueryPredictions], Sequence[QueryTargets]], list[Assignment]]
Losses = Callable[[QueryPredictions, Assignment, QueryTargets], dict[str, Tensor]]


def set_loss(layers: Sequence[QueryLayer], targets: QueryTargets, matcher: Matcher, losses: Losses
             ) -> dict[str, Tensor]:
    """The losses of all layers: the last one, auxiliary, encoder and denoising ones alike.

    Args:
        layers: what is predicted; those without an assignment are matched, all in one go.
        targets: the objects of the batch, for layers that have no targets of their own.
        matcher: (predictions, objects), of several layers each -> an assignment (B, Q) for each layer.
        losses: (predictions, assignment, objects) of one layer -> {name: scalar}.

    Returns:
        {prefix + name: scalar}.
    """
    truths = [targets if layer.targets is None else layer.targets for layer in layers]
    open_ones = [(layer.predictions, truth) for layer, truth in zip(layers, truths, strict=True)
                 if layer.assignment is None]
    found = iter(matcher([p for p, _ in open_ones], [t for _, t in open_ones]))
    out = {}
    for layer, truth in zip(layers, truths, strict=True):
        assignment = next(found) if layer.assignment is None else layer.assignment
        for name, value in losses(layer.predictions, assignment, truth).items():
            out[layer.prefix + name] = value
    return out
