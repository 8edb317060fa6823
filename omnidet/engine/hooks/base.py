"""What a hook is, and how a config's hooks become a list in the order of their priorities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omnidet.errors import ConfigError
from omnidet.registry import HOOKS

if TYPE_CHECKING:
    from omnidet.engine.run import Run

PRIORITIES = {'HIGHEST': 0, 'VERY_HIGH': 10, 'HIGH': 30, 'ABOVE_NORMAL': 40, 'NORMAL': 50, 'BELOW_NORMAL': 60,
              'LOW': 70, 'VERY_LOW': 90, 'LOWEST': 100}


class Hook:
    """Something that happens at certain moments of a training. Every method does nothing until a subclass says what.

    The loop calls `before_train`, `before_epoch`, `before_iter`, `after_iter`, `after_epoch`, `before_val`,
    `after_val`, `before_save` and `after_train` with the run. Hooks written for MMEngine use other names for some of
    these moments (`before_train_epoch`, `after_train_iter`, ...); they are called too.

    `run.iter` and `run.epoch` count what is finished: within `after_iter` and `after_epoch`, the iteration or epoch
    that just ended is not counted yet.

    Attributes:
        priority: hooks with a smaller number come first; or a name such as 'LOW'.
    """

    priority: int | str = 'NORMAL'

    def before_train(self, run: Run) -> None: ...

    def before_epoch(self, run: Run) -> None:
        self.before_train_epoch(run)

    def before_iter(self, run: Run, batch: Any) -> None:
        self.before_train_iter(run, run.batch_index, batch)

    def after_iter(self, run: Run, batch: Any, losses: dict[str, Any]) -> None:
        self.after_train_iter(run, run.batch_index, batch, losses)

    def after_epoch(self, run: Run) -> None:
        self.after_train_epoch(run)

    def before_val(self, run: Run) -> None:
        self.before_val_epoch(run)

    def after_val(self, run: Run, metrics: dict[str, float]) -> None:
        self.after_val_epoch(run, metrics)

    def before_save(self, run: Run, checkpoint: dict[str, Any]) -> None:
        self.before_save_checkpoint(run, checkpoint)

    def after_train(self, run: Run) -> None: ...

    def before_train_epoch(self, runner: Any) -> None: ...

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None: ...

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None: ...

    def after_train_epoch(self, runner: Any) -> None: ...

    def before_val_epoch(self, runner: Any) -> None: ...

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None: ...

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None: ...

    def every_n_epochs(self, runner: Any, n: int, start: int = 0) -> bool:
        """Whether the epoch that ends is one in `n`."""
        return n > 0 and runner.epoch + 1 > start and (runner.epoch + 1 - start) % n == 0

    def every_n_train_iters(self, runner: Any, n: int, start: int = 0) -> bool:
        """Whether the iteration that ends is one in `n`."""
        return n > 0 and runner.iter + 1 > start and (runner.iter + 1 - start) % n == 0


DEFAULT_HOOKS: dict[str, dict[str, Any]] = {'logger': {'type': 'LoggerHook'}, 'checkpoint': {'type': 'CheckpointHook'}}


def build_hooks(cfg: Mapping[str, Any]) -> list[Hook]:
    """The hooks of a config's `default_hooks` and `custom_hooks`, those that come first first.

    A run logs and saves even where the config does not say so; `default_hooks=dict(checkpoint=None)` turns one off.

    Raises:
        ConfigError: an unknown hook or argument, or something that is no hook.
    """
    defaults = {**DEFAULT_HOOKS, **(cfg.get('default_hooks') or {})}
    wanted = [(f'default_hooks.{k}', v) for k, v in defaults.items() if v]
    wanted += [(f'custom_hooks[{i}]', v) for i, v in enumerate(cfg.get('custom_hooks') or ())]
    hooks = []
    for where, one in wanted:
        try:
            hook, priority = _build(one)
        except ConfigError as e:
            raise ConfigError(f'{where}: {e}') from e
        if not isinstance(hook, Hook):
            raise ConfigError(f'{where}: {type(hook).__name__} is no omnidet.engine.hooks.Hook')
        hooks.append((priority, hook))
    return [hook for _, hook in sorted(hooks, key=lambda pair: pair[0])]


def _build(cfg: Any) -> tuple[Any, int]:
    if not isinstance(cfg, Mapping):
        return cfg, _number(getattr(cfg, 'priority', 'NORMAL'))
    hook = HOOKS.build({k: v for k, v in cfg.items() if k != 'priority'})
    return hook, _number(cfg.get('priority', getattr(hook, 'priority', 'NORMAL')))


def _number(priority: int | str) -> int:
    if isinstance(priority, int):
        return priority
    if priority.upper() not in PRIORITIES:
        raise ConfigError(f'priority: {priority!r} is neither a number nor one of {", ".join(PRIORITIES)}')
    return PRIORITIES[priority.upper()]
