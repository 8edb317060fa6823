"""One query for each object, at the least total cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from omnidet.models.parts.queries import QueryPredictions, QueryTargets
from omnidet.registry import ASSIGNERS, MATCH_COSTS
from omnidet.structures import Assignment

Cfg = Mapping[str, Any]


@ASSIGNERS.register
class HungarianAssigner:
    """Bipartite matching of queries and objects (arXiv:2005.12872, equation 1).

    Where there are more objects than queries, those that fit worst go without one. A padded object has no query.

    Args:
        match_costs: one cost or several, which are added.
    """

    def __init__(self, match_costs: Cfg | Sequence[Cfg]) -> None:
        costs = [match_costs] if isinstance(match_costs, Mapping) else match_costs
        self.match_costs = [MATCH_COSTS.build(c) for c in costs]

    @torch.no_grad()
    def __call__(self, predictions: Iterable[QueryPredictions], truths: Iterable[QueryTargets]) -> list[Assignment]:
        """Match several layers at once: one copy from the device and one back.

        Args:
            predictions: of each layer; Q may differ from layer to layer.
            truths: the objects of each layer.

        Returns:
            For each layer an assignment (B, Q); `score` is 0.
        """
        costs = [self.cost(p, t) for p, t in zip(predictions, truths, strict=True)]
        return [Assignment(gt.clamp(min=0), gt >= 0, torch.zeros_like(gt, dtype=torch.bool),
                           torch.zeros_like(gt, dtype=torch.float32)) for gt in match(costs)]

    def cost(self, pred: QueryPredictions, truth: QueryTargets) -> Tensor:
        """(B, Q, G), finite for real objects and infinite for padded ones."""
        total = sum(cost(pred, truth) for cost in self.match_costs)
        # A model that diverged has no best match; its loss says so, where the solver would only stop.
        return total.nan_to_num(1e8, 1e8, -1e8).masked_fill(~truth.valid[:, None], torch.inf)


@torch.compiler.disable
def match(costs: Sequence[Tensor]) -> list[Tensor]:
    """The object of each query: (B, Q) int64 for each layer's costs (B, Q, G), -1 where a query has none.

    Columns of infinite cost are never matched.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and wanted by trainings of query heads alone

    if not costs:
        return []
    host = torch.cat([c.flatten() for c in costs]).cpu().split([c.numel() for c in costs])
    found = []
    for cost, flat in zip(costs, host, strict=True):
        gt = torch.full(cost.shape[:2], -1)
        for image, table in enumerate(flat.view(cost.shape).numpy()):
            real = (table < float('inf')).all(0).nonzero()[0]
            queries, objects = linear_sum_assignment(table[:, real])
            gt[image, torch.from_numpy(queries)] = torch.from_numpy(real[objects])
        found.append(gt)
    device = costs[0].device
    merged = torch.cat([gt.flatten() for gt in found]).to(device, non_blocking=True)
    return [m.view(gt.shape) for m, gt in zip(merged.split([gt.numel() for gt in found]), found, strict=True)]
