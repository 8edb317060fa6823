"""Averages of a model's weights over its training steps."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from omnidet.registry import Registry

AVERAGES = Registry('average of the weights', 'omnidet.engine')
"""What an EMAHook's `ema_type` names."""

Pairs = list[tuple[Tensor, Tensor]]


class AveragedModel:
    """A copy of a model that holds an average of its weights.

    Args:
        model: the model that is trained.
        interval: average at every so many steps.
        update_buffers: average buffers (a batch norm's statistics) too, in place of copying them.
    """

    def __init__(self, model: nn.Module, interval: int = 1, update_buffers: bool = False) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.interval = interval
        self.update_buffers = update_buffers
        self.steps = 0

    def weight(self) -> float:
        """The share that the trained model's weights get at this step."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of `model` after a step of its training; the first time they are copied."""
        averaged, copied = self._pairs(model)
        if self.steps == 0:
            _copy(averaged)
        elif self.steps % self.interval == 0 and averaged:
            mine, theirs = zip(*averaged, strict=True)
            torch._foreach_lerp_(mine, theirs, self.weight())
        _copy(copied)
        self.steps += 1

    def copy(self, model: nn.Module) -> None:
        """Become equal to `model`, as before the first step."""
        averaged, copied = self._pairs(model)
        with torch.no_grad():
            _copy(averaged + copied)

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """The raw weights of `model` and the count of steps, as a checkpoint keeps them beside the averaged weights."""
        return {'steps': torch.tensor(self.steps), **{f'module.{k}': v for k, v in model.state_dict().items()}}

    def _pairs(self, model: nn.Module) -> tuple[Pairs, Pairs]:
        """(mine, theirs) of the tensors to average, and of those to copy."""
        averaged: Pairs = list(zip(self.module.parameters(), model.parameters(), strict=True))
        buffers: Pairs = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if self.update_buffers:
            averaged += [(a, b) for a, b in buffers if a.is_floating_point()]
            buffers = [(a, b) for a, b in buffers if not a.is_floating_point()]
        return averaged, buffers


@AVERAGES.register
class ExponentialMovingAverage(AveragedModel):
    """The average moves by `momentum` of its distance to the model; see `AveragedModel`."""

    def __init__(self, model: nn.Module, momentum: float = 0.0002, interval: int = 1,
                 update_buffers: bool = False) -> None:
        super().__init__(model, interval, update_buffers)
        self.momentum = momentum

    def weight(self) -> float:
        return self.momentum


@AVERAGES.register
class ExpMomentumEMA(AveragedModel):
    """Like `ExponentialMovingAverage`, with a momentum that falls from 1 in some `gamma` steps (arXiv:2107.08430)."""

    def __init__(self, model: nn.Module, momentum: float = 0.0002, gamma: int = 2000, interval: int = 1,
                 update_buffers: bool = False) -> None:
        super().__init__(model, interval, update_buffers)
        self.momentum = momentum
        self.gamma = gamma

    def weight(self) -> float:
        return (1 - self.momentum) * math.exp(-(1 + self.steps) / self.gamma) + self.momentum


@AVERAGES.register
class MomentumAnnealingEMA(AveragedModel):
    """Like `ExponentialMovingAverage`, with the momentum `gamma / (gamma + steps)` while that is larger."""

    def __init__(self, model: nn.Module, momentum: float = 0.0002, gamma: int = 100, interval: int = 1,
                 update_buffers: bool = False) -> None:
        super().__init__(model, interval, update_buffers)
        self.momentum = momentum
        self.gamma = gamma

    def weight(self) -> float:
        return max(self.momentum, self.gamma / (self.gamma + self.steps))


@AVERAGES.register
class StochasticWeightAverage(AveragedModel):
    """The plain mean of the weights at every `interval` steps (arXiv:1803.05407)."""

    def __init__(self, model: nn.Module, interval: int = 1, update_buffers: bool = False) -> None:
        super().__init__(model, interval, update_buffers)

    def weight(self) -> float:
        return 1 / (self.steps // self.interval + 1)


def _copy(pairs: Pairs) -> None:
    if pairs:
        mine, theirs = zip(*pairs, strict=True)
        torch._foreach_copy_(mine, theirs)
