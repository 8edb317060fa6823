"""Batches from a `train_dataloader`, `val_dataloader` or `test_dataloader` of a config."""

from __future__ import annotations

import atexit
import functools
import inspect
import itertools
import os
import signal
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from omnidet.compat.user_code import for_workers
from omnidet.data.collate import collate
from omnidet.errors import ConfigError, did_you_mean
from omnidet.registry import DATA_SAMPLERS, DATASETS, Registry
from omnidet.structures import Batch

KEYS = ('batch_size', 'num_workers', 'persistent_workers', 'pin_memory', 'drop_last', 'sampler', 'batch_sampler',
        'collate_fn', 'dataset', 'prefetch_factor', 'timeout', 'multiprocessing_context', 'num_batch_per_epoch')
COLLATES = ('default_collate', 'pseudo_collate')


class Loader:
    """An iterable of `Batch`, made by worker processes.

    Which image comes at a place of an epoch, and how it is augmented, depends on the seed, the epoch and the image
    alone, so that a resumed run sees what an uninterrupted one saw (with CachedMosaic and CachedMixUp: when it is
    resumed between two epochs).

    Args:
        dataset: what `build_dataset` gives.
        batch_sampler: yields lists of indices, or of (epoch, index).
        num_workers: worker processes; 0 loads in this one.
        persistent_workers: keep the workers from one epoch to the next.
        pin_memory: put batches where a GPU can fetch them.
        collate_fn: makes a batch of samples.
        prefetch_factor: batches that each worker makes ahead.
        timeout: seconds to wait for a batch; 0 for ever.
        multiprocessing_context: how workers are started: 'fork', 'spawn' or 'forkserver'.
        limit: the most batches of an epoch.
        give_way: let the workers run at a lower priority, where the same processor trains.
    """

    def __init__(self, dataset: Any, batch_sampler: Any, *, num_workers: int = 0, persistent_workers: bool = False,
                 pin_memory: bool = False, collate_fn: Callable[[Sequence[Any]], Any] = collate,
                 prefetch_factor: int | None = None, timeout: float = 0, multiprocessing_context: str | None = None,
                 limit: int | None = None, give_way: bool = False) -> None:
        self.dataset = dataset
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self._keys = _Keys(batch_sampler, limit)
        self._options = dict(
            num_workers=num_workers, pin_memory=pin_memory, collate_fn=collate_fn, timeout=timeout,
            persistent_workers=persistent_workers and num_workers > 0,
            prefetch_factor=prefetch_factor if num_workers > 0 else None,
            multiprocessing_context=multiprocessing_context if num_workers > 0 else None,
            worker_init_fn=functools.partial(_prepare_worker, give_way) if num_workers > 0 else None,
            generator=torch.Generator().manual_seed(0))    # workers' seeds take nothing from the model's stream
        self._loader: DataLoader | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._loader is None:
            dataset = for_workers(self.dataset) if self.num_workers else self.dataset
            self._loader = DataLoader(dataset, batch_sampler=self._keys, **self._options)    # type: ignore[arg-type]
        iterator = iter(self._loader)
        if self.num_workers:
            _running.add(iterator)
        return iterator

    def __len__(self) -> int:
        """Batches in an epoch; in one pass, where the sampler has no end."""
        return len(self._keys)

    @property
    def endless(self) -> bool:
        """Whether the sampler goes on without an end; an iteration over the loader then does too."""
        return self._keys.endless

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self._keys.epoch = epoch

    def set_start(self, iteration: int) -> None:
        """Leave out the first `iteration` batches of the next iteration, without loading them."""
        self._keys.start = iteration

    def set_pipeline(self, pipeline: Sequence[Any]) -> None:
        """Replace the data set's transforms from the next iteration on; workers are started anew."""
        self.dataset.set_pipeline(pipeline)
        self._loader = None

    def skip_transforms(self, types: Sequence[str]) -> None:
        """Leave out transforms of these types from the next iteration on; workers are started anew.

        Raises:
            ConfigError: the data set is no `MultiImageMixDataset`.
        """
        if not hasattr(self.dataset, 'update_skip_type_keys'):
            raise ConfigError(f'{type(self.dataset).__name__} cannot leave out transforms; MultiImageMixDataset can')
        self.dataset.update_skip_type_keys(types)
        self._loader = None


class _Keys:
    """The batches of an epoch as lists of (epoch, index)."""

    def __init__(self, batch_sampler: Any, limit: int | None) -> None:
        self.batch_sampler = batch_sampler
        self.limit = limit
        self.endless = bool(getattr(getattr(batch_sampler, 'sampler', None), 'endless', False))
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        epoch, start, self.start = self.epoch, self.start, 0
        for sampler in (self.batch_sampler, getattr(self.batch_sampler, 'sampler', None)):
            if sampler is not None and hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
        for batch in itertools.islice(iter(self.batch_sampler), start, None if self.endless else self.limit):
            yield [key if isinstance(key, tuple) else (epoch, int(key)) for key in batch]

    def __len__(self) -> int:
        n = len(self.batch_sampler)
        return n if self.limit is None else min(n, self.limit)


def build_dataset(cfg: Mapping[str, Any], test_mode: bool | None = None) -> Any:
    """A data set from its config; its annotations are read, unless it is `lazy_init`.

    Args:
        cfg: the config, of a data set or of one that wraps others.
        test_mode: in place of what the config says.

    Raises:
        ConfigError: the config does not fit.
        DatasetError: the annotations cannot be read.
    """
    dataset = DATASETS.build(cfg if test_mode is None else _in_mode(cfg, test_mode))
    if hasattr(dataset, 'full_init') and not cfg.get('lazy_init', False):
        dataset.full_init()
    return dataset


def _in_mode(cfg: Mapping[str, Any], test_mode: bool) -> dict[str, Any]:
    """`cfg` with `test_mode` set, in the data sets that it wraps where it wraps some."""
    if isinstance(cfg.get('datasets'), Sequence):
        return {**cfg, 'datasets': [_in_mode(c, test_mode) for c in cfg['datasets']]}
    if isinstance(cfg.get('dataset'), Mapping):
        return {**cfg, 'dataset': _in_mode(cfg['dataset'], test_mode)}
    return {**cfg, 'test_mode': test_mode}


def build_loader(cfg: Mapping[str, Any], *, train: bool, seed: int = 0, rank: int = 0, world_size: int = 1,
                 device_type: str = 'cpu', drop_last: bool | None = None) -> Loader:
    """A loader from its config.

    Args:
        cfg: a `train_dataloader`, `val_dataloader` or `test_dataloader`.
        train: otherwise every image comes exactly once over all processes, in test mode.
        seed: what the order of the images and all their augmentations depend on.
        rank, world_size: this process, and how many there are.
        device_type: where the batches go; memory is pinned for 'cuda' only.
        drop_last: in place of what the config says.

    Raises:
        ConfigError: the config does not fit.
        DatasetError: the annotations cannot be read.
    """
    for key in cfg:
        if key not in KEYS:
            raise ConfigError(f'a dataloader has no option {key!r}{did_you_mean(str(key), KEYS)}')
    if 'dataset' not in cfg:
        raise ConfigError('a dataloader needs a dataset')
    dataset = build_dataset(cfg['dataset'], test_mode=None if train else True)
    if hasattr(dataset, 'set_seed'):
        dataset.set_seed(seed, rank)
    sampler_cfg = dict(cfg.get('sampler') or dict(type='DefaultSampler', shuffle=train))
    if not train and sampler_cfg.get('type') == 'DefaultSampler':
        sampler_cfg['round_up'] = False
    if sampler_cfg.get('seed', 0) is None:
        del sampler_cfg['seed']
    sampler = _build(DATA_SAMPLERS, sampler_cfg, dataset=dataset, seed=seed, rank=rank, world_size=world_size)
    last = cfg.get('drop_last', False) if drop_last is None else drop_last
    batch_sampler = _build(DATA_SAMPLERS, cfg.get('batch_sampler') or dict(type='BatchSampler'), sampler=sampler,
                           batch_size=cfg.get('batch_size', 1), drop_last=last)
    return Loader(
        dataset, batch_sampler, num_workers=cfg.get('num_workers', 0),
        persistent_workers=cfg.get('persistent_workers', False),
        pin_memory=device_type == 'cuda' and cfg.get('pin_memory', True),
        collate_fn=_collate(cfg.get('collate_fn')), prefetch_factor=cfg.get('prefetch_factor'),
        timeout=cfg.get('timeout', 0), multiprocessing_context=cfg.get('multiprocessing_context'),
        limit=cfg.get('num_batch_per_epoch'), give_way=device_type == 'cpu')


def _build(registry: Registry, cfg: Mapping[str, Any], **defaults: Any) -> Any:
    """A sampler with those of the defaults that it takes; one of a user's own need not know all."""
    cls = registry.get(cfg['type']) if isinstance(cfg.get('type'), str) else cfg.get('type')
    takes = inspect.signature(cls).parameters if cls is not None else {}
    return registry.build(cfg, **{k: v for k, v in defaults.items() if k in takes})


def _collate(cfg: Any) -> Callable[[Sequence[Any]], Any]:
    name = cfg.get('type') if isinstance(cfg, Mapping) else cfg
    if name is None or (isinstance(name, str) and name.rpartition('.')[2] in COLLATES):
        return collate
    if callable(name):
        return name
    raise ConfigError(f'dataloader.collate_fn: {name!r} is none of {", ".join(COLLATES)}')


def _prepare_worker(give_way: bool, worker: int) -> None:
    """In a worker: one thread each; Ctrl-C and SIGTERM are for the main process, which then ends the workers.

    It ends them by a message on their queues: see `_end_workers`.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if give_way and hasattr(os, 'nice'):
        os.nice(10)    # a computing thread that has to wait for a core holds up all others
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


_running: weakref.WeakSet[Any] = weakref.WeakSet()    # iterators with workers


@atexit.register
def _end_workers() -> None:
    """End the workers of iterations that an error broke off: multiprocessing would send a SIGTERM and wait for ever."""
    for iterator in list(_running):
        iterator._shutdown_workers()
