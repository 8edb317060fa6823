"""Ending a training that no longer gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omnidet.engine.hooks.base import Hook
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run


@HOOKS.register
class EarlyStoppingHook(Hook):
    """End the training when a metric no longer improves.

    Args:
        monitor: the metric's name.
        rule: 'greater' or 'less' is better; told by the name where absent.
        min_delta: an improvement is more than this.
        strict: accepted; a metric that is not finite ends the training with `check_finite`.
        check_finite: stop where the metric is not a finite number.
        patience: how many validations without improvement are borne.
        stopping_threshold: stop at once when the metric reaches this.
    """

    def __init__(self, monitor: str, rule: str | None = None, min_delta: float = 0.1, strict: bool = False,
                 check_finite: bool = True, patience: int = 5, stopping_threshold: float | None = None) -> None:
        self.monitor = monitor
        self.less = rule == 'less' or (rule is None and 'loss' in monitor)
        self.min_delta, self.check_finite, self.patience = min_delta, check_finite, patience
        self.threshold = stopping_threshold
        self.best: float | None = None
        self.waited = 0

    def after_val(self, run: Run, metrics: dict[str, float]) -> None:
        if self.monitor not in metrics:
            return
        score, sign = metrics[self.monitor], -1 if self.less else 1
        if self.best is None or sign * (score - self.best) > self.min_delta:
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        reached = self.threshold is not None and sign * (score - self.threshold) >= 0
        if reached or self.waited >= self.patience or (self.check_finite and score != score):
            run.stop(f'{self.monitor} is {score:.4f}' + ('' if reached else f', {self.waited} times without a gain'))
