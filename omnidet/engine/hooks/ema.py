"""A moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omnidet.engine.ema import AVERAGES
from omnidet.engine.hooks.base import Hook
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run


@HOOKS.register
class EMAHook(Hook):
    """Average the weights after each iteration; validation and checkpoints then use the average.

    Args:
        ema_type: 'ExponentialMovingAverage', 'ExpMomentumEMA', 'MomentumAnnealingEMA' or 'StochasticWeightAverage'.
        strict_load: accepted; a run's own checkpoint always has the average in full.
        begin_iter: average from this iteration on; until then the average is the model itself.
        begin_epoch: the same in epochs.
        momentum: how far the average moves to the model at each step.
        gamma: how slowly the momentum falls from 1, for the types that have it.
        interval: average every so many iterations.
        update_buffers: average buffers too (batch norm's statistics); otherwise they are copied.
    """

    def __init__(self, ema_type: str = 'ExponentialMovingAverage', strict_load: bool = False, begin_iter: int = 0,
                 begin_epoch: int = 0, momentum: float | None = None, gamma: int | None = None, interval: int = 1,
                 update_buffers: bool = False) -> None:
        given = {'momentum': momentum, 'gamma': gamma}
        self.settings: dict[str, Any] = {'type': ema_type, 'interval': interval, 'update_buffers': update_buffers,
                                         **{k: v for k, v in given.items() if v is not None}}
        self.begin_iter = begin_iter
        self.begin_epoch = begin_epoch

    def before_train(self, run: Run) -> None:
        run.ema = AVERAGES.build(self.settings, model=run.model)
        if run.resumed is not None and 'ema_state_dict' in run.resumed:
            run.ema.module.load_state_dict(run.resumed['state_dict'])
            run.ema.steps = int(run.resumed['ema_state_dict']['steps'])

    def after_iter(self, run: Run, batch: Any, losses: dict[str, Any]) -> None:
        assert run.ema is not None
        if run.iter + 1 >= self.begin_iter and run.epoch >= self.begin_epoch:
            run.ema.update(run.model)
        else:
            run.ema.copy(run.model)
