"""`optimizer`, `optimizer_config` and `fp16` of 2.x as `optim_wrapper`."""

from __future__ import annotations

from omnidet.config.nodes import ConfigDict
from omnidet.config.upgrade.work import Work, replaces

HOOKS = {'OptimizerHook': 'OptimWrapper', 'DistOptimizerHook': 'OptimWrapper',
         'GradientCumulativeOptimizerHook': 'OptimWrapper', 'Fp16OptimizerHook': 'AmpOptimWrapper',
         'GradientCumulativeFp16OptimizerHook': 'AmpOptimWrapper', 'ApexOptimizerHook': 'AmpOptimWrapper'}
SETTINGS = {'grad_clip': 'clip_grad', 'cumulative_iters': 'accumulative_counts', 'loss_scale': 'loss_scale'}
LOSS_SCALE = 512.0
"""The scale of losses in half precision that 2.x took where none was given."""


def upgrade_optimizer(work: Work) -> None:
    """Make of the three the entry `optim_wrapper`, over what is inherited of it.

    Raises:
        ConfigError: `optimizer_config.type` is no hook of 2.x.
    """
    optimizer, steps = work.settings('optimizer'), work.settings('optimizer_config')
    half = work.cfg.get('fp16')
    if not (optimizer or steps or half is not None):
        return
    old = work.cfg.get('optim_wrapper') or ConfigDict()
    new = ConfigDict()
    if replaces(optimizer):
        for key in ('optimizer', 'paramwise_cfg', 'constructor'):
            old.pop(key, None)
    if replaces(steps):
        old.pop('clip_grad', None)
    _steps(work, steps, new)
    if half is not None:
        _half(work, work.settings('fp16'), new)
    if not old:
        new = work.like(new, {'type': new.pop('type', 'OptimWrapper'), **new})
    if optimizer:
        _optimizer(work, optimizer, new)
    if new.get('clip_grad', 0) is None and not old.get('clip_grad'):
        del new['clip_grad']    # nothing to take back
    if new:
        work.merge(work.cfg, 'optim_wrapper', new, 'optimizer' if optimizer else 'optimizer_config')


def _optimizer(work: Work, optimizer: ConfigDict, new: ConfigDict) -> None:
    for key, note in (('paramwise_cfg', ''), ('paramwise_options', ''), ('constructor', '')):
        if optimizer.get(key) is None:
            optimizer.pop(key, None)
        elif optimizer[key] == 'DefaultOptimizerConstructor':
            del optimizer[key]
        else:
            name = 'paramwise_cfg' if key == 'paramwise_options' else key
            work.changes.note(f'optimizer.{key}', f'optim_wrapper.{name}', note)
            work.move(optimizer, key, new, name)
    if optimizer:
        work.changes.note('optimizer', 'optim_wrapper.optimizer')
        work.put(new, 'optimizer', optimizer, work.cfg, 'optimizer')


def _steps(work: Work, steps: ConfigDict, new: ConfigDict) -> None:
    if 'type' in steps:
        work.one_of(steps, 'type', 'optimizer_config.type', HOOKS)
        kind = HOOKS[steps['type']]
        work.changes.note('optimizer_config.type', 'optim_wrapper.type', f'{steps["type"]} is {kind}')
        work.put(new, 'type', kind, steps, 'type')
        if steps['type'].endswith('Fp16OptimizerHook'):
            steps.setdefault('loss_scale', LOSS_SCALE)
        del steps['type']
    for key in list(steps):
        if key in SETTINGS:
            if steps[key] is not None:
                work.changes.note(f'optimizer_config.{key}', f'optim_wrapper.{SETTINGS[key]}')
            work.move(steps, key, new, SETTINGS[key])
        else:
            work.changes.note(f'optimizer_config.{key}', '', 'no optim_wrapper has it')


def _half(work: Work, half: ConfigDict, new: ConfigDict) -> None:
    work.put(new, 'type', 'AmpOptimWrapper', work.cfg, 'fp16')
    work.put(new, 'loss_scale', half.get('loss_scale', LOSS_SCALE), half, 'loss_scale')
    work.changes.note('fp16', 'optim_wrapper.type', 'AmpOptimWrapper')
    for key in half:
        if key != 'loss_scale':
            work.changes.note(f'fp16.{key}', '', 'no optim_wrapper has it')
