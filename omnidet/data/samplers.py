"""Which images come when: the order of an epoch, the shares of several processes, and the grouping into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch

from omnidet.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register
class DefaultSampler:
    """Every image once in an epoch, shared among the processes.

    Args:
        dataset: what to draw from.
        shuffle: in an order that seed and epoch determine, otherwise as they stand.
        seed: what the order depends on; the run's seed where not given.
        round_up: repeat a few images so that every process has as many.
        rank, world_size: this process, and how many there are.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True,
                 rank: int = 0, world_size: int = 1) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed or 0
        self.round_up = round_up
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = _order(len(self.dataset), self.seed, self.epoch, self.shuffle)
        if self.round_up:
            total = self.world_size * -(-len(order) // self.world_size)
            order = (order * -(-total // max(len(order), 1)))[:total]
        return iter(order[self.rank::self.world_size])

    def __len__(self) -> int:
        n = len(self.dataset)
        return -(-n // self.world_size) if self.round_up else len(range(self.rank, n, self.world_size))


@DATA_SAMPLERS.register
class InfiniteSampler:
    """Passes through all images without an end, for training by iterations; yields (pass, index).

    Args:
        dataset: what to draw from.
        shuffle: each pass in an order that seed and pass determine, otherwise as they stand.
        seed: what the order depends on; the run's seed where not given.
        rank, world_size: this process, and how many there are.
    """

    endless = True

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, rank: int = 0,
                 world_size: int = 1) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed or 0
        self.rank = rank
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """A stream without an end has no epochs."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, number = 0, 0
        while True:
            for index in _order(len(self.dataset), self.seed, number, self.shuffle):
                if position % self.world_size == self.rank:
                    yield number, index
                position += 1
            number += 1

    def __len__(self) -> int:
        """One pass's share of this process."""
        return -(-len(self.dataset) // self.world_size)


def _order(n: int, seed: int, epoch: int, shuffle: bool) -> list[int]:
    if not shuffle:
        return list(range(n))
    generator = torch.Generator().manual_seed((seed + epoch) & 0x7FFFFFFFFFFFFFFF)
    return torch.randperm(n, generator=generator).tolist()


@DATA_SAMPLERS.register
class BatchSampler:
    """Batches of images as they come.

    Args:
        sampler: yields indices, or (epoch, index).
        batch_size: images in a batch.
        drop_last: leave out an incomplete last batch.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[Any]]:
        batch: list[Any] = []
        for key in self.sampler:
            batch.append(key)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


@DATA_SAMPLERS.register
class AspectRatioBatchSampler(BatchSampler):
    """Batches of images that are all upright, or all lying, so that less of a batch is padding.

    What is left of both at the end is mixed, so that there are as many batches as without grouping.

    Args:
        sampler: yields indices, or (epoch, index); has the data set as `dataset`.
        batch_size: images in a batch.
        drop_last: leave out an incomplete last batch.
    """

    def __iter__(self) -> Iterator[list[Any]]:
        sizes = self.sampler.dataset.sizes
        buckets: tuple[list[Any], list[Any]] = ([], [])
        for key in self.sampler:
            width, height = sizes[key[1] if isinstance(key, tuple) else key]
            bucket = buckets[int(width >= height)]
            bucket.append(key)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()
        rest = buckets[0] + buckets[1]
        for start in range(0, len(rest), self.batch_size):
            batch = rest[start:start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch
