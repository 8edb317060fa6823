"""The hook that watches the training and tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from omnidet.engine.hooks.base import Hook
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run


@HOOKS.register
class LoggerHook(Hook):
    """Tell rate, losses and learning rate every `interval` iterations, and the metrics of each validation.

    Losses are means over the iterations since the last line; they stay on the device until then.

    Args:
        interval: how often.
        ignore_last: accepted; the last iterations of an epoch are told with the next line.
        interval_exp_name: accepted.
        out_dir: accepted; the log lies in the work folder.
        out_suffix: accepted.
        keep_local: accepted.
        file_client_args: accepted.
        log_metric_by_epoch: accepted; records have both epoch and iteration.
        backend_args: accepted.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 10, ignore_last: bool = True, interval_exp_name: int = 1000,
                 out_dir: str | None = None, out_suffix: Any = None, keep_local: bool = True,
                 file_client_args: Any = None, log_metric_by_epoch: bool = True, backend_args: Any = None) -> None:
        self.interval = interval
        self.sums: dict[str, tuple[Tensor, int]] = {}

    def after_iter(self, run: Run, batch: Any, losses: dict[str, Any]) -> None:
        for name, value in losses.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value.detach(), count + 1)
        last = run.iter + 1 == run.max_iters
        if (run.iter + 1) % self.interval and not last:
            run.logger.advance(run)
            return
        names = sorted(self.sums, key=lambda n: n != 'loss')
        means = reduce_mean(torch.stack([(self.sums[n][0] / self.sums[n][1]).float() for n in names])).tolist()
        self.sums = {}
        run.logger.train(run, dict(zip(names, means, strict=True)))

    def after_val(self, run: Run, metrics: dict[str, float]) -> None:
        run.logger.validation(run, metrics)
