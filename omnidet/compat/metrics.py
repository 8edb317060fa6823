"""Metrics of the users' own that derive from MMEngine's `BaseMetric`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from omnidet.compat.structures import data_sample
from omnidet.evaluation.report import figure_table
from omnidet.structures import ImageMeta, Result


class BaseMetric:
    """The class to derive a metric from as MMEngine has it: `process` takes in images, `compute_metrics` gives figures.

    `process` is given data samples as dicts, as MMEngine's evaluator hands them over: the meta data, `pred_instances`
    of bboxes, scores, labels (and masks), and `gt_instances` of bboxes and labels, both in pixels of the image's file.

    Args:
        collect_device: accepted: results are gathered on the CPU.
        prefix: put before the figures' names; `default_prefix` of the class by default.
        collect_dir: accepted.

    Attributes:
        results: what `process` appends to.
        dataset_meta: the data set's classes and palette.
    """

    default_prefix: str | None = None

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None, collect_dir: str | None = None) -> None:
        self.prefix = prefix or self.default_prefix
        self.results: list[Any] = []
        self.dataset_meta: dict[str, Any] | None = None
        self._dataset: Any = None
        self._index: dict[Any, int] | None = None
        self._figures: dict[str, float] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Take in some images."""
        raise NotImplementedError(f'{type(self).__name__} does not define process()')

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """The figures over all results."""
        raise NotImplementedError(f'{type(self).__name__} does not define compute_metrics()')

    # ------------------------------------------------------------------------- what OmniDet's engine calls

    def attach(self, dataset: Any) -> None:
        """Tell which images are measured."""
        self._dataset, self.dataset_meta = dataset, dict(getattr(dataset, 'metainfo', {}))

    @property
    def records(self) -> list[Any]:
        return self.results

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        samples = []
        for result, meta in zip(results, metas, strict=True):
            samples.append({**data_sample(result, meta).to_dict(), **self._truth(meta.img_id)})
        self.process({'inputs': None, 'data_samples': samples}, samples)

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        figures = self.compute_metrics(self.results if records is None else records)
        before = f'{self.prefix}/' if self.prefix else ''
        self._figures = {f'{before}{k}': v for k, v in figures.items()}
        return self._figures

    def report(self) -> str:
        return figure_table(type(self).__name__, self._figures)

    def reset(self) -> None:
        self.results = []

    def _truth(self, img_id: Any) -> dict[str, Any]:
        """The ground truth of an image, where the data set can tell it."""
        store = getattr(self._dataset, 'store', None)
        if store is None:
            return {}
        if self._index is None:
            self._index = {image_id: i for i, image_id in enumerate(store.ids)}
        if img_id not in self._index:
            return {}
        instances = store.instances(self._index[img_id])
        kept = [i for i in instances if not i['ignore_flag']]
        return {'instances': instances, 'gt_instances': {
            'bboxes': torch.tensor([i['bbox'] for i in kept], dtype=torch.float32).reshape(-1, 4),
            'labels': torch.tensor([i['bbox_label'] for i in kept], dtype=torch.long)}}
