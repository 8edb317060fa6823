"""Learning rates over a run: what every `param_scheduler` of a config makes of the optimizer's settings.

A scheduler changes the current value at each of its own steps, between its `begin` and its `end`; several of them act
one after another on the same value. Each such change is affine in the value and in the base (the optimizer's own),

    value <- keep * value + base_gain * base + constant

so that a whole run is `value[t] = base * scale[t] + shift[t]` with two arrays that hold for every parameter group. The
training loop reads them at its iteration: a schedule has no state, and resuming needs none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from omnidet.engine.loops import TrainLoop, build_train_loop
from omnidet.errors import ConfigError
from omnidet.registry import PARAM_SCHEDULERS

Array = NDArray[np.float64]
Change = tuple[Array | float, Array | float, Array | float]
"""What a scheduler does at its steps: (keep, base_gain, constant)."""


@dataclass(kw_only=True)
class Scheduler:
    """What all schedulers have in common.

    Attributes:
        begin: the first step (an epoch, or an iteration) at which it acts.
        end: the step at which it stops; the end of the run where it is None.
        by_epoch: steps are epochs.
        convert_to_iter_based: `begin`, `end` and the like are given in epochs, but the value changes at each iteration.
        param_name: the optimizer's setting that it changes.
        last_step: accepted for the sake of existing configs; a schedule has no state here.
        verbose: accepted likewise.
    """

    begin: int = 0
    end: int | None = None
    by_epoch: bool = True
    convert_to_iter_based: bool = False
    param_name: str = 'lr'
    last_step: int = -1
    verbose: bool = False

    in_steps: ClassVar[tuple[str, ...]] = ('begin', 'end')
    """The settings that count steps."""

    @property
    def length(self) -> int:
        """How many steps lie between `begin` and `end`."""
        assert self.end is not None
        return self.end - self.begin

    def by_iteration(self, iterations_per_epoch: int) -> Scheduler:
        """The same scheduler with its settings counted in iterations."""
        def times(value: Any) -> Any:
            return [times(v) for v in value] if isinstance(value, (list, tuple)) else value * iterations_per_epoch
        scaled = {k: times(v) for k in self.in_steps if (v := getattr(self, k)) is not None}
        return dataclasses.replace(self, **scaled, by_epoch=False, convert_to_iter_based=False)

    def change(self, k: Array) -> Change:
        """The affine change at its steps `k` = 0, 1, 2, ..., counted from `begin`."""
        raise NotImplementedError


def _register(kind: str) -> Any:
    """File a scheduler under the names of its three forms: for the rate, for the momentum, for any setting."""
    def file(cls: type[Scheduler]) -> type[Scheduler]:
        for form in ('LR', 'Momentum', 'ParamScheduler'):
            PARAM_SCHEDULERS.register(cls, kind + form)
        return cls
    return file


@_register('Constant')
@dataclass(kw_only=True)
class ConstantLR(Scheduler):
    """`factor` times the value until the last step, which takes it back."""

    factor: float = 1 / 3

    def change(self, k: Array) -> Change:
        return np.where(k == 0, self.factor, np.where(k == self.length - 1, 1 / self.factor, 1.0)), 0.0, 0.0


@_register('Linear')
@dataclass(kw_only=True)
class LinearLR(Scheduler):
    """From `start_factor` to `end_factor` times the value, in equal steps."""

    start_factor: float = 1 / 3
    end_factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.start_factor <= 1:
            raise ConfigError(f'LinearLR: start_factor must be above 0 and at most 1, not {self.start_factor}')

    def change(self, k: Array) -> Change:
        rise, before = self.end_factor - self.start_factor, np.maximum(k - 1, 0)
        growth = 1 + rise / (max(self.length - 1, 1) * self.start_factor + before * rise)
        return np.where(k == 0, self.start_factor, growth), 0.0, 0.0


@_register('MultiStep')
@dataclass(kw_only=True)
class MultiStepLR(Scheduler):
    """`gamma` times the value at each of the `milestones`, which count from `begin`."""

    milestones: list[int]
    gamma: float = 0.1
    in_steps: ClassVar[tuple[str, ...]] = ('begin', 'end', 'milestones')

    def change(self, k: Array) -> Change:
        hits = (k[:, None] == np.asarray(self.milestones, dtype=np.float64)).sum(1)
        return self.gamma ** hits, 0.0, 0.0


@_register('Step')
@dataclass(kw_only=True)
class StepLR(Scheduler):
    """`gamma` times the value every `step_size` steps."""

    step_size: int
    gamma: float = 0.1
    in_steps: ClassVar[tuple[str, ...]] = ('begin', 'end', 'step_size')

    def change(self, k: Array) -> Change:
        return np.where((k > 0) & (k % self.step_size == 0), self.gamma, 1.0), 0.0, 0.0


@_register('Exponential')
@dataclass(kw_only=True)
class ExponentialLR(Scheduler):
    """`gamma` times the value at each step."""

    gamma: float

    def change(self, k: Array) -> Change:
        return np.where(k == 0, 1.0, self.gamma), 0.0, 0.0


@_register('Poly')
@dataclass(kw_only=True)
class PolyLR(Scheduler):
    """Down to `eta_min` as a polynomial of the remaining share of the steps."""

    power: float = 1.0
    eta_min: float = 0.0

    def change(self, k: Array) -> Change:
        last, now = max(self.length - 1, 1), np.maximum(k, 1)
        ratio = np.where(k == 0, 1.0, (1 - (now - 1) / last) ** -self.power * (1 - now / last) ** self.power)
        return ratio, 0.0, self.eta_min * (1 - ratio)


@_register('CosineAnnealing')
@dataclass(kw_only=True)
class CosineAnnealingLR(Scheduler):
    """Down to `eta_min`, or to `eta_min_ratio` of the base, along half a cosine of `T_max` steps (arXiv:1608.03983)."""

    T_max: int | None = None
    eta_min: float | None = None
    eta_min_ratio: float | None = None
    in_steps: ClassVar[tuple[str, ...]] = ('begin', 'end', 'T_max')

    def change(self, k: Array) -> Change:
        T = self.T_max or self.length
        floor = (1 + np.cos(np.pi * np.maximum(k - 1, 0) / T))
        turning = (k > 0) & ((k - 1 - T) % (2 * T) == 0)    # the step after the lowest point, where the ratio is 0 / 0
        ratio = np.where((k == 0) | turning, 1.0, (1 + np.cos(np.pi * k / T)) / np.where(turning, 1.0, floor))
        lift = np.where(turning, (1 - np.cos(np.pi / T)) / 2, 0.0)
        share, eta_min = self.eta_min_ratio or 0.0, self.eta_min or 0.0
        return ratio, share * (1 - ratio - lift) + lift, eta_min * (1 - ratio - lift)


@_register('CosineRestart')
@dataclass(kw_only=True)
class CosineRestartLR(Scheduler):
    """A half cosine for each of `periods`, each from `restart_weights` of the base down to `eta_min`."""

    periods: list[int]
    restart_weights: list[float] = dataclasses.field(default_factory=lambda: [1.0])
    eta_min: float | None = None
    eta_min_ratio: float | None = None
    in_steps: ClassVar[tuple[str, ...]] = ('begin', 'end', 'periods')

    def __post_init__(self) -> None:
        if len(self.periods) != len(self.restart_weights):
            raise ConfigError(f'CosineRestartLR: {len(self.periods)} periods, but {len(self.restart_weights)} '
                              'restart_weights')

    def change(self, k: Array) -> Change:
        ends = np.cumsum(self.periods)
        i = np.minimum(np.searchsorted(ends, k, side='right'), len(ends) - 1)
        done = np.minimum((k - (ends - self.periods)[i]) / np.asarray(self.periods)[i], 1)
        wave = 0.5 * np.asarray(self.restart_weights)[i] * (1 + np.cos(np.pi * done))
        share, eta_min = self.eta_min_ratio or 0.0, self.eta_min or 0.0
        return 0.0, share + (1 - share) * wave, eta_min * (1 - wave)


@_register('OneCycle')
@dataclass(kw_only=True)
class OneCycleLR(Scheduler):
    """Up to `eta_max` and down far below the start, in one cycle (arXiv:1708.07120)."""

    eta_max: float
    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = 'cos'
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False
    in_steps: ClassVar[tuple[str, ...]] = ('begin', 'end', 'total_steps')

    def change(self, k: Array) -> Change:
        total = self.total_steps or self.length
        start, top = self.eta_max / self.div_factor, float(self.pct_start * total) - 1
        corners = [0.0, top, 2 * top, total - 1.0] if self.three_phase else [0.0, top, total - 1.0]
        values = [start, self.eta_max, start] if self.three_phase else [start, self.eta_max]
        values.append(start / self.final_div_factor)
        i = np.clip(np.searchsorted(corners, k, side='left') - 1, 0, len(corners) - 2)
        at, level = np.asarray(corners), np.asarray(values)
        done = np.minimum((k - at[i]) / (at[i + 1] - at[i]), 1)
        if self.anneal_strategy == 'cos':
            done = (1 - np.cos(np.pi * done)) / 2
        return 0.0, 0.0, level[i] + (level[i + 1] - level[i]) * done


@_register('QuadraticWarmup')
@dataclass(kw_only=True)
class QuadraticWarmupLR(Scheduler):
    """From almost nothing to the base, as the square of the step."""

    def change(self, k: Array) -> Change:
        return np.where(k == 0, 0.0, 1.0), (2 * k + 1) / self.length ** 2, 0.0


@dataclass
class Schedule:
    """A setting of the optimizer over a whole run: `base * scale[t] + shift[t]` at iteration `t`."""

    scale: Array
    shift: Array

    def at(self, base: float, iteration: int) -> float:
        t = min(iteration, len(self.scale) - 1)
        return float(base * self.scale[t] + self.shift[t])


def build_schedules(cfg: Mapping[str, Any], iterations_per_epoch: int) -> dict[str, Schedule]:
    """The schedule of each setting of the optimizer that the config's `param_scheduler` changes: 'lr', 'momentum', ...

    Args:
        cfg: the whole config.
        iterations_per_epoch: the length of the training loader.
    """
    loop = build_train_loop(cfg)
    total = loop.iterations(iterations_per_epoch)
    schedulers = [_scheduler(c, loop, iterations_per_epoch) for c in _listed(cfg.get('param_scheduler'))]
    return {name: _combine([s for s in schedulers if s.param_name == name], loop, total, iterations_per_epoch)
            for name in dict.fromkeys(['lr', *(s.param_name for s in schedulers)])}


def lr_curve(cfg: Mapping[str, Any], iterations_per_epoch: int) -> list[float]:
    """The learning rate at each iteration of the run, for an optimizer whose own is 1.

    That makes it the factor of any optimizer's, but for an `eta_min` above 0, which a config gives as a rate, not as a
    factor.

    Args:
        cfg: the whole config.
        iterations_per_epoch: the length of the training loader.
    """
    lr = build_schedules(cfg, iterations_per_epoch)['lr']
    return (lr.scale + lr.shift).tolist()


def _listed(schedulers: Any) -> list[Mapping[str, Any]]:
    return list(schedulers) if isinstance(schedulers, (list, tuple)) else [schedulers] if schedulers else []


def _scheduler(cfg: Mapping[str, Any], loop: TrainLoop, iterations_per_epoch: int) -> Scheduler:
    scheduler = PARAM_SCHEDULERS.build(cfg)
    if str(cfg['type']).endswith('Momentum'):
        scheduler.param_name = 'momentum'
    if scheduler.end is None:
        count = loop.epochs if scheduler.by_epoch else loop.iterations
        scheduler.end = count(iterations_per_epoch)
    if scheduler.end <= scheduler.begin:
        raise ConfigError(f'param_scheduler: {cfg["type"]} ends at {scheduler.end}, which is not after its begin '
                          f'{scheduler.begin}')
    if scheduler.convert_to_iter_based:
        if not scheduler.by_epoch:
            raise ConfigError(f'param_scheduler: {cfg["type"]} has by_epoch=False and convert_to_iter_based=True')
        scheduler = scheduler.by_iteration(iterations_per_epoch)
    return scheduler


def _combine(schedulers: list[Scheduler], loop: TrainLoop, total: int, iterations_per_epoch: int) -> Schedule:
    """Let the schedulers act in turn; at an epoch's first iteration those by iteration come first."""
    keep, gain, constant = np.ones(total), np.zeros(total), np.zeros(total)
    for s in sorted(schedulers, key=lambda s: s.by_epoch):
        stride = iterations_per_epoch if loop.by_epoch else total    # a run by iterations is one long epoch
        stride = stride if s.by_epoch else 1
        begin, end = s.begin * stride, min((s.end or total) * stride, total)
        t = slice(begin, max(begin, end), stride)
        k = np.arange(len(keep[t]), dtype=np.float64)
        a, b, c = s.change(k)
        keep[t], gain[t], constant[t] = a * keep[t], a * gain[t] + b, a * constant[t] + c
    return Schedule(_run(1.0, keep, gain), _run(0.0, keep, constant))


def _run(value: float, keep: Array, add: Array) -> Array:
    """`value[t] = keep[t] * value[t - 1] + add[t]`."""
    if not add.any():
        return np.asarray(value * np.cumprod(keep), dtype=np.float64)
    out = np.empty(len(keep))
    for t, (k, a) in enumerate(zip(keep.tolist(), add.tolist(), strict=True)):
        value = k * value + a
        out[t] = value
    return out
