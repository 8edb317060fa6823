"""Hooks of the users' own that derive from MMEngine's `Hook`, or from MMCV's of MMDetection 2.x."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from omnidet.engine import hooks
from omnidet.engine.hooks.base import PRIORITIES
from omnidet.engine.run import Run
from omnidet.errors import ConfigError

Batch = Any
Losses = dict[str, Any]


class Runner:
    """A `Run` under the names that MMEngine's and MMCV's runners have; what is set on it is set on the run.

    Args:
        run: the training.
        outputs: the losses of the iteration that just ended.
    """

    def __init__(self, run: Run, outputs: Losses | None = None) -> None:
        wrapper = SimpleNamespace(optimizer=run.optimizer, param_groups=run.optimizer.param_groups, get_lr=self.get_lr)
        self.__dict__.update(
            _run=run, outputs=outputs, train_loop=run.loop, optim_wrapper=wrapper, inner_iter=run.batch_index,
            data_loader=run.train_dataloader, val_dataloader=getattr(run.evaluation, 'loader', None),
            experiment_name=run.work_dir.name, mode='train')

    def current_lr(self) -> list[float]:
        """The learning rate of each group of parameters."""
        return [group['lr'] for group in self._run.optimizer.param_groups]

    def get_lr(self) -> dict[str, list[float]]:
        """{'lr': those of `current_lr`}."""
        return {'lr': self.current_lr()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or '_run' not in self.__dict__:
            raise AttributeError(name)
        if name in ('_max_epochs', '_max_iters', '_epoch', '_iter', '_hooks'):
            name = name[1:]
        if not hasattr(self._run, name):
            known = sorted(n for n in {*vars(self._run), *dir(type(self._run))} if not n.startswith('_'))
            raise AttributeError(f'the run of OmniDet has no {name!r}; it has {", ".join(known)}')
        return getattr(self._run, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._run, name, value)


class Hook:
    """The class to derive a hook from as MMEngine has it. Moments of the test loop are not called."""

    priority: int | str = 'NORMAL'

    def before_run(self, runner: Any) -> None: ...

    def after_run(self, runner: Any) -> None: ...

    def before_train(self, runner: Any) -> None: ...

    def after_train(self, runner: Any) -> None: ...

    def before_val(self, runner: Any) -> None: ...

    def after_val(self, runner: Any) -> None: ...

    def before_train_epoch(self, runner: Any) -> None:
        self._before_epoch(runner, 'train')

    def before_val_epoch(self, runner: Any) -> None:
        self._before_epoch(runner, 'val')

    def after_train_epoch(self, runner: Any) -> None:
        self._after_epoch(runner, 'train')

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self._after_epoch(runner, 'val')

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self._before_iter(runner, batch_idx, data_batch, 'train')

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._after_iter(runner, batch_idx, data_batch, outputs, 'train')

    def _before_epoch(self, runner: Any, mode: str = 'train') -> None: ...

    def _after_epoch(self, runner: Any, mode: str = 'train') -> None: ...

    def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = 'train') -> None: ...

    def _after_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None,
                    mode: str = 'train') -> None: ...

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None: ...

    def every_n_epochs(self, runner: Any, n: int, start: int = 0) -> bool:
        return n > 0 and (runner.epoch + 1 - start) > 0 and (runner.epoch + 1 - start) % n == 0

    def every_n_inner_iters(self, batch_idx: int, n: int) -> bool:
        return n > 0 and (batch_idx + 1) % n == 0

    def every_n_train_iters(self, runner: Any, n: int, start: int = 0) -> bool:
        return n > 0 and (runner.iter + 1 - start) > 0 and (runner.iter + 1 - start) % n == 0

    def end_of_epoch(self, dataloader: Any, batch_idx: int) -> bool:
        return batch_idx + 1 == len(dataloader)

    def is_last_train_epoch(self, runner: Any) -> bool:
        return runner.epoch + 1 == runner.max_epochs

    def is_last_train_iter(self, runner: Any) -> bool:
        return runner.iter + 1 == runner.max_iters


class OldHook:
    """The class to derive a hook from as MMCV has it for MMDetection 2.x: the batch's losses are `runner.outputs`."""

    def before_run(self, runner: Any) -> None: ...

    def after_run(self, runner: Any) -> None: ...

    def before_epoch(self, runner: Any) -> None: ...

    def after_epoch(self, runner: Any) -> None: ...

    def before_iter(self, runner: Any) -> None: ...

    def after_iter(self, runner: Any) -> None: ...

    def before_train_epoch(self, runner: Any) -> None:
        self.before_epoch(runner)

    def after_train_epoch(self, runner: Any) -> None:
        self.after_epoch(runner)

    def before_val_epoch(self, runner: Any) -> None:
        self.before_epoch(runner)

    def after_val_epoch(self, runner: Any) -> None:
        self.after_epoch(runner)

    def before_train_iter(self, runner: Any) -> None:
        self.before_iter(runner)

    def after_train_iter(self, runner: Any) -> None:
        self.after_iter(runner)

    def every_n_epochs(self, runner: Any, n: int) -> bool:
        return n > 0 and (runner.epoch + 1) % n == 0

    def every_n_iters(self, runner: Any, n: int) -> bool:
        return n > 0 and (runner.iter + 1) % n == 0

    def every_n_inner_iters(self, runner: Any, n: int) -> bool:
        return n > 0 and (runner.inner_iter + 1) % n == 0

    def end_of_epoch(self, runner: Any) -> bool:
        return runner.inner_iter + 1 == len(runner.data_loader)

    def is_last_epoch(self, runner: Any) -> bool:
        return runner.epoch + 1 == runner.max_epochs

    def is_last_iter(self, runner: Any) -> bool:
        return runner.iter + 1 == runner.max_iters


def adapted_hook(hook: Any) -> hooks.Hook:
    """A hook of the user's as one of ours.

    Raises:
        ConfigError: it derives from none of the classes that hooks derive from.
    """
    if isinstance(hook, hooks.Hook):
        return hook
    if isinstance(hook, Hook):
        return _EngineHook(hook)
    if isinstance(hook, OldHook):
        return _OldHook(hook)
    raise ConfigError(f'{type(hook).__name__} is no hook; a hook derives from omnidet.engine.hooks.Hook, '
                      'mmengine.hooks.Hook or mmcv.runner.Hook')


class _EngineHook(hooks.Hook):
    """Calls a hook at the moments of MMEngine's training loop."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.priority = hook.priority

    def before_train(self, run: Run) -> None:
        self.hook.before_run(Runner(run))
        self.hook.before_train(Runner(run))

    def before_epoch(self, run: Run) -> None:
        self.hook.before_train_epoch(Runner(run))

    def before_iter(self, run: Run, batch: Batch) -> None:
        self.hook.before_train_iter(Runner(run), run.batch_index, batch)

    def after_iter(self, run: Run, batch: Batch, losses: Losses) -> None:
        self.hook.after_train_iter(Runner(run, losses), run.batch_index, batch, losses)

    def after_epoch(self, run: Run) -> None:
        self.hook.after_train_epoch(Runner(run))

    def before_val(self, run: Run) -> None:
        self.hook.before_val(Runner(run))
        self.hook.before_val_epoch(Runner(run))

    def after_val(self, run: Run, metrics: dict[str, float]) -> None:
        self.hook.after_val_epoch(Runner(run), metrics)
        self.hook.after_val(Runner(run))

    def before_save(self, run: Run, checkpoint: dict[str, Any]) -> None:
        self.hook.before_save_checkpoint(Runner(run), checkpoint)

    def after_train(self, run: Run) -> None:
        self.hook.after_train(Runner(run))
        self.hook.after_run(Runner(run))


class _OldHook(hooks.Hook):
    """Calls a hook at the moments of MMCV's runner."""

    def __init__(self, hook: OldHook) -> None:
        self.hook = hook
        self.priority = getattr(hook, 'priority', 'NORMAL')

    def before_train(self, run: Run) -> None:
        self.hook.before_run(Runner(run))

    def before_epoch(self, run: Run) -> None:
        self.hook.before_train_epoch(Runner(run))

    def before_iter(self, run: Run, batch: Batch) -> None:
        self.hook.before_train_iter(Runner(run))

    def after_iter(self, run: Run, batch: Batch, losses: Losses) -> None:
        self.hook.after_train_iter(Runner(run, {'loss': losses['loss'], 'log_vars': _numbers(losses)}))

    def after_epoch(self, run: Run) -> None:
        self.hook.after_train_epoch(Runner(run))

    def before_val(self, run: Run) -> None:
        self.hook.before_val_epoch(Runner(run))

    def after_val(self, run: Run, metrics: dict[str, float]) -> None:
        self.hook.after_val_epoch(Runner(run))

    def after_train(self, run: Run) -> None:
        self.hook.after_run(Runner(run))


class _numbers(dict[str, Any]):    # noqa: N801
    """Losses as numbers, each brought from the device when it is read."""

    def __getitem__(self, name: str) -> float:
        return float(super().__getitem__(name))


def priority(name: int | str) -> int:
    """The number of a priority, as `mmengine.runner.get_priority` gives it."""
    return name if isinstance(name, int) else PRIORITIES[name.upper()]

