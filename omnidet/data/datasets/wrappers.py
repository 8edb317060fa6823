"""Data sets made of others: several in a row, one repeated, one with its rare classes repeated, images mixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from omnidet.data.transforms.base import build_transform, seeded
from omnidet.errors import ConfigError, DatasetError
from omnidet.registry import DATASETS
from omnidet.structures import Sample


class DatasetView:
    """A list of places in other data sets.

    Args:
        datasets: what it shows.
        rows: (I, 3), for each image its data set, its index there, and how often it has come before.
    """

    def __init__(self, datasets: Sequence[Any], rows: np.ndarray) -> None:
        self.datasets = list(datasets)
        self.rows = np.asarray(rows, np.int64).reshape(-1, 3)
        self.metainfo: dict[str, Any] = self.datasets[0].metainfo
        self.classes: tuple[str, ...] = self.datasets[0].classes
        self.ann_path = self.datasets[0].ann_path

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Sample:
        """The sample of an index, or of (epoch, index, ...); each repetition is augmented anew."""
        epoch, index, *rest = key if isinstance(key, tuple) else (0, key)
        dataset, inner, repetition = self.rows[index].tolist()
        place = (epoch, inner, repetition, *rest)
        return self.datasets[dataset][place]

    def load(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from."""
        dataset, inner, _ = self.rows[index].tolist()
        return self.datasets[dataset].load(inner)

    def get_cat_ids(self, index: int) -> list[int]:
        """The labels of an image's instances."""
        dataset, inner, _ = self.rows[index].tolist()
        return self.datasets[dataset].get_cat_ids(inner)

    @property
    def cat_ids(self) -> list[int]:
        return self.datasets[0].cat_ids

    @property
    def image_ids(self) -> list[Any]:
        ids = [d.image_ids for d in self.datasets]
        return [ids[d][i] for d, i, _ in self.rows.tolist()]

    @property
    def sizes(self) -> np.ndarray:
        """(I, 2) int32, (width, height) of every image."""
        starts = np.cumsum([0, *(len(d) for d in self.datasets[:-1])])
        return np.concatenate([d.sizes for d in self.datasets])[starts[self.rows[:, 0]] + self.rows[:, 1]]

    def set_seed(self, seed: int, rank: int = 0) -> None:
        for n, dataset in enumerate(self.datasets):
            dataset.set_seed(seed + n, rank)

    def set_pipeline(self, pipeline: Sequence[Any]) -> None:
        for dataset in self.datasets:
            dataset.set_pipeline(pipeline)


@DATASETS.register
class ConcatDataset(DatasetView):
    """Several data sets of the same classes, one after another.

    Args:
        datasets: their configs.
        lazy_init: accepted; annotations are read at once.
        ignore_keys: accepted; only the classes must be equal.
    """

    def __init__(self, datasets: Sequence[Any], lazy_init: bool = False,
                 ignore_keys: str | Sequence[str] | None = None) -> None:
        built = [DATASETS.build(d) for d in datasets]
        if not built:
            raise ConfigError('ConcatDataset.datasets: at least one is wanted')
        for d in built[1:]:
            if d.classes != built[0].classes:
                raise ConfigError(f'ConcatDataset: the data sets differ in their classes: {built[0].classes} and '
                                  f'{d.classes}')
        super().__init__(built, np.array([(n, i, 0) for n, d in enumerate(built) for i in range(len(d))]))


@DATASETS.register
class RepeatDataset(DatasetView):
    """A data set several times over, for small ones: fewer epochs, less waiting between them.

    Args:
        dataset: its config.
        times: how often.
        lazy_init: accepted; annotations are read at once.
    """

    def __init__(self, dataset: Mapping[str, Any], times: int, lazy_init: bool = False) -> None:
        built = DATASETS.build(dataset)
        super().__init__([built], np.array([(0, i, t) for t in range(times) for i in range(len(built))]))


@DATASETS.register
class ClassBalancedDataset(DatasetView):
    """A data set in which images of rare classes come several times (LVIS, arXiv:1908.03195, appendix B.2).

    With f the share of images that show a class, r = max(1, sqrt(oversample_thr / f)); an image comes ceil(r) times for
    the largest r of its classes.

    Args:
        dataset: its config.
        oversample_thr: the share below which a class is repeated.
        lazy_init: accepted; annotations are read at once.
    """

    def __init__(self, dataset: Mapping[str, Any], oversample_thr: float, lazy_init: bool = False) -> None:
        built = DATASETS.build(dataset)
        labels = [set(built.get_cat_ids(i)) for i in range(len(built))]
        share = {c: n / len(labels) for c, n in Counter(c for s in labels for c in s).items()}
        times = [max([1.0, *(np.sqrt(oversample_thr / share[c]) for c in s)]) for s in labels]
        super().__init__([built], np.array([(0, i, t) for i, r in enumerate(times) for t in range(int(np.ceil(r)))]))


@DATASETS.register
class MultiImageMixDataset(DatasetView):
    """A data set whose transforms take in other images of it (CopyPaste).

    The inner data set has a pipeline of its own, which does not pack. A transform here that has `get_indexes(dataset)`
    gets the images that it asks for, out of that pipeline, as `results['mix_results']`.

    Args:
        dataset: the inner data set's config.
        pipeline: the transforms.
        skip_type_keys: the types of transforms to leave out.
        max_refetch: how many others to try when a transform drops the image.
        lazy_init: accepted; annotations are read at once.
    """

    def __init__(self, dataset: Mapping[str, Any], pipeline: Sequence[Any],
                 skip_type_keys: Sequence[str] | None = None, max_refetch: int = 15, lazy_init: bool = False) -> None:
        built = DATASETS.build(dataset)
        super().__init__([built], np.array([(0, i, 0) for i in range(len(built))]))
        if max_refetch < 1:
            raise ConfigError(f'MultiImageMixDataset.max_refetch: at least 1 is wanted; found {max_refetch}')
        self.max_refetch = max_refetch
        self.skip_type_keys = set(skip_type_keys or ())
        self.seed = 0
        self.set_pipeline(pipeline)

    def set_pipeline(self, pipeline: Sequence[Any]) -> None:
        """Replace the outer transforms."""
        self.pipeline = [build_transform(t) for t in pipeline]

    def update_skip_type_keys(self, skip_type_keys: Sequence[str]) -> None:
        """Leave out transforms of these types from now on."""
        self.skip_type_keys = set(skip_type_keys)

    def set_seed(self, seed: int, rank: int = 0) -> None:
        super().set_seed(seed, rank)
        self.seed = seed

    def __getitem__(self, key: Any) -> Sample:
        """The sample of an index, or of (epoch, index, ...).

        Raises:
            DatasetError: no image was left after `max_refetch` attempts.
        """
        epoch, index, *rest = key if isinstance(key, tuple) else (0, key)
        index = range(len(self))[index]
        with seeded(self.seed, epoch, index, *rest, 2):
            for _ in range(self.max_refetch + 1):
                sample = self._make(epoch, index, rest)
                if sample is not None:
                    return sample
                index = int(np.random.randint(len(self)))
        raise DatasetError(f'{self.ann_path}: {self.max_refetch + 1} images in a row were dropped by the pipeline of '
                           'MultiImageMixDataset')

    def _make(self, epoch: int, index: int, rest: list[int]) -> Any:
        """The sample, or None where a transform drops the image."""
        inner, place = self.datasets[0], (epoch, index, *rest)
        results = inner[place]
        if not isinstance(results, dict):
            raise ConfigError('MultiImageMixDataset.dataset.pipeline: it must not pack; PackDetInputs comes last in '
                              'the pipeline of MultiImageMixDataset')
        for transform in self.pipeline:
            if type(transform).__name__ in self.skip_type_keys:
                continue
            if hasattr(transform, 'get_indexes'):
                others = np.atleast_1d(transform.get_indexes(inner)).tolist()
                # each use of an image is augmented anew: its key holds the image that it goes into
                places = [(epoch, other, *rest, 1 + n, index) for n, other in enumerate(others)]
                results['mix_results'] = [inner[place] for place in places]
            results = transform(results)
            if results is None:
                return None
            if isinstance(results, dict):
                results.pop('mix_results', None)
        return results
