"""YOLOX's last epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omnidet.engine.hooks.base import Hook
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run


@HOOKS.register
class YOLOXModeSwitchHook(Hook):
    """In the last epochs train on whole images, and with an L1 loss too (YOLOX, arXiv:2107.08430, section 2.1).

    The switch comes before the epoch that has `num_last_epochs` others after it, as MMDetection has it.

    Args:
        num_last_epochs: how many.
        skip_type_keys: the transforms of `MultiImageMixDataset` that are left out then.
    """

    def __init__(self, num_last_epochs: int = 15,
                 skip_type_keys: Sequence[str] = ('Mosaic', 'RandomAffine', 'MixUp')) -> None:
        self.num_last_epochs = num_last_epochs
        self.skip_type_keys = tuple(skip_type_keys)
        self.switched = False

    def before_epoch(self, run: Run) -> None:
        if self.switched or run.epoch + 1 < run.max_epochs - self.num_last_epochs:
            return
        run.train_dataloader.skip_transforms(self.skip_type_keys)
        run.stream = None
        for module in run.model.modules():
            if hasattr(module, 'use_l1'):
                module.use_l1 = True    # type: ignore[assignment]
        run.logger.info(f'epoch {run.epoch + 1}: no more {", ".join(self.skip_type_keys)}; L1 loss from here on')
        self.switched = True
