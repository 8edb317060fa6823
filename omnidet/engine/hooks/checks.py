"""Hooks that stop a training which cannot end well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from omnidet.engine.hooks.base import Hook
from omnidet.errors import ConfigError, TrainingError
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run


@HOOKS.register
class NumClassCheckHook(Hook):
    """Hold the number of classes of every head against the data set's; a training does so by itself too."""

    def before_train(self, run: Run) -> None:
        check_num_classes(run.model, run.train_dataloader.dataset.classes, 'train_dataloader.dataset')


@HOOKS.register
class CheckInvalidLossHook(Hook):
    """Stop when the loss is not a finite number.

    Args:
        interval: look every so many iterations.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_iter(self, run: Run, batch: Any, losses: dict[str, Any]) -> None:
        if self.every_n_train_iters(run, self.interval):
            check_finite(losses, run.iter + 1)


def check_num_classes(model: nn.Module, classes: tuple[str, ...], where: str) -> None:
    """Hold `num_classes` of the model's heads against a data set's classes; RPN heads have a count of their own.

    Raises:
        ConfigError: a head has another number.
    """
    for name, module in model.named_modules():
        K = getattr(module, 'num_classes', None)
        parts = name.split('.')
        is_head = 'rpn_head' not in parts and any('bbox_head' in p or p == 'mask_head' for p in parts)
        if is_head and isinstance(K, int) and len(classes) != K:
            listed = ', '.join(classes[:5]) + (', ...' if len(classes) > 5 else '')
            raise ConfigError(f'model.{name}.num_classes is {K}, but {where} has {len(classes)} classes ({listed}): '
                              f'set num_classes to {len(classes)}, or name the classes in metainfo=dict(classes=(...))')


def check_finite(losses: dict[str, Any], iteration: int) -> None:
    """Raise TrainingError where the total loss is not finite, naming the parts that are not."""
    if torch.isfinite(losses['loss']):
        return
    bad = [k for k, v in losses.items() if isinstance(v, Tensor) and not torch.isfinite(v) and k != 'loss']
    raise TrainingError(f'iteration {iteration}: the loss is not finite ({", ".join(bad) or "loss"}). A smaller '
                        'learning rate, a longer warm-up or clip_grad=dict(max_norm=35) in optim_wrapper may help')
