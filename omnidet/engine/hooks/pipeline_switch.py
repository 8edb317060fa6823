"""Another training pipeline for the last epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omnidet.engine.hooks.base import Hook
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run


@HOOKS.register
class PipelineSwitchHook(Hook):
    """Train with `switch_pipeline` from epoch `switch_epoch` (counted from 0) on.

    Args:
        switch_epoch: the first epoch of the new pipeline.
        switch_pipeline: its transforms.
    """

    def __init__(self, switch_epoch: int, switch_pipeline: Sequence[Mapping[str, Any]]) -> None:
        self.switch_epoch = switch_epoch
        self.switch_pipeline = list(switch_pipeline)
        self.switched = False

    def before_epoch(self, run: Run) -> None:
        if run.epoch >= self.switch_epoch and not self.switched:
            run.train_dataloader.set_pipeline(self.switch_pipeline)
            run.stream = None
            run.logger.info(f'epoch {run.epoch + 1}: the training pipeline is switched')
            self.switched = True
