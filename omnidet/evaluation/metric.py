"""What a metric is to the engine, and how a config's evaluators become metrics."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from omnidet.registry import METRICS
from omnidet.structures import ImageMeta, Result


class Metric(Protocol):
    """Collects one light record per image, and turns all records into numbers at the end.

    The engine gathers the `records` of all ranks and hands them to `compute` of one.

    Attributes:
        records: one per image, picklable; the first element is the image's id.
    """

    records: list[Any]

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        """Take in what the model found in some images."""

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        """The figures over `records` (this metric's own by default). Prints nothing."""

    def report(self) -> str:
        """The figures of the last `compute` as tables of text."""

    def reset(self) -> None:
        """Forget all records."""


def build_metrics(cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None, dataset: Any) -> list[Metric]:
    """Build a config's `val_evaluator` or `test_evaluator`.

    Args:
        cfg: one evaluator's dict, or a list of them; never changed.
        dataset: what is evaluated. It, its `classes`, and its `ann_path` where the config gives no `ann_file`, are
            handed to those metrics that take `dataset`, `classes` and `ann_file`; it is also handed to those that have
            `attach(dataset)`.
    """
    if cfg is None:
        return []
    known = {'ann_file': getattr(dataset, 'ann_path', None), 'classes': getattr(dataset, 'classes', None),
             'dataset': dataset}
    metrics = []
    for one in [cfg] if isinstance(cfg, Mapping) else cfg:
        given = {k: v for k, v in one.items() if not (k in known and v is None)}
        kind = one.get('type')
        cls = METRICS.get(kind) if isinstance(kind, str) else kind
        takes = inspect.signature(cls).parameters if callable(cls) else {}
        metrics.append(METRICS.build(given, **{k: v for k, v in known.items() if k in takes and v is not None}))
        if hasattr(metrics[-1], 'attach'):
            metrics[-1].attach(dataset)
    return metrics
