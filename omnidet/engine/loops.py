"""`train_cfg`, `val_cfg` and `test_cfg`: how long a run is and when it is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnidet.errors import ConfigError
from omnidet.registry import LOOPS


@LOOPS.register
@dataclass
class EpochBasedTrainLoop:
    """So many passes over the data.

    Attributes:
        max_epochs: how many.
        val_begin: the first epoch (counted from 1) after which the model may be validated.
        val_interval: validate after every so many epochs; the last epoch is validated in any case.
        dynamic_intervals: (epoch, interval) pairs: from that epoch on, another interval.
        by_epoch: that this is so; some configs say it beside the type.
    """

    max_epochs: int
    val_begin: int = 1
    val_interval: int = 1
    dynamic_intervals: Sequence[tuple[int, int]] | None = None
    by_epoch: bool = True

    def epochs(self, iterations_per_epoch: int) -> int:
        return self.max_epochs

    def iterations(self, iterations_per_epoch: int) -> int:
        return self.max_epochs * iterations_per_epoch

    def validates(self, done: int) -> bool:
        """Whether to validate after `done` epochs."""
        return _due(done, self.max_epochs, self.val_begin, self.val_interval, self.dynamic_intervals)


@LOOPS.register
@dataclass
class IterBasedTrainLoop:
    """So many batches; see `EpochBasedTrainLoop`, with iterations in place of epochs."""

    max_iters: int
    val_begin: int = 1
    val_interval: int = 1000
    dynamic_intervals: Sequence[tuple[int, int]] | None = None
    by_epoch: bool = False

    def epochs(self, iterations_per_epoch: int) -> int:
        return math.ceil(self.max_iters / iterations_per_epoch)

    def iterations(self, iterations_per_epoch: int) -> int:
        return self.max_iters

    def validates(self, done: int) -> bool:
        """Whether to validate after `done` iterations."""
        return _due(done, self.max_iters, self.val_begin, self.val_interval, self.dynamic_intervals)


TrainLoop = EpochBasedTrainLoop | IterBasedTrainLoop


@LOOPS.register
@dataclass
class ValLoop:
    """Validation; with `fp16`, in half precision."""

    fp16: bool = False


@LOOPS.register
@dataclass
class TestLoop:
    """The final test; with `fp16`, in half precision."""

    fp16: bool = False
    __test__ = False    # its name looks like a test to pytest


def build_train_loop(cfg: Mapping[str, Any]) -> TrainLoop:
    """The config's `train_cfg`; `by_epoch` may stand in place of a `type`.

    Raises:
        ConfigError: there is none, or it does not say how long to train.
    """
    train_cfg = cfg.get('train_cfg')
    if not train_cfg:
        raise ConfigError('train_cfg is missing: say how long to train, for example '
                          "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)")
    train_cfg = dict(train_cfg)
    by_epoch = train_cfg.pop('by_epoch', 'max_epochs' in train_cfg)
    train_cfg.setdefault('type', 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
    return LOOPS.build(train_cfg)


def _due(done: int, last: int, begin: int, interval: int, changes: Sequence[tuple[int, int]] | None) -> bool:
    for start, new in sorted(changes or ()):
        if done >= start:
            interval = new
    return done >= begin and (done % interval == 0 or done == last)
