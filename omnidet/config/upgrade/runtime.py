"""All that surrounds a training in 2.x: checkpoints, logs, hooks, processes, where to begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omnidet.config.nodes import ConfigDict
from omnidet.config.upgrade.work import Work

DEFAULT_HOOKS = {'timer': 'IterTimerHook', 'logger': 'LoggerHook', 'param_scheduler': 'ParamSchedulerHook',
                 'checkpoint': 'CheckpointHook', 'sampler_seed': 'DistSamplerSeedHook',
                 'visualization': 'DetVisualizationHook'}
CHECKPOINT = ('interval', 'by_epoch', 'save_optimizer', 'out_dir', 'max_keep_ckpts', 'save_last', 'filename_tmpl')

BACKENDS = {'TensorboardLoggerHook': 'TensorboardVisBackend', 'WandbLoggerHook': 'WandbVisBackend',
            'MMDetWandbHook': 'WandbVisBackend'}
"""Where records go, beside the files that are always written."""

KEPT = ('log_dir', 'init_kwargs')
PLACES = {'log_dir': 'save_dir', 'init_kwargs': 'init_kwargs'}

ENVIRONMENT = {'mp_start_method': ('mp_cfg', 'mp_start_method'), 'opencv_num_threads': ('mp_cfg', 'opencv_num_threads'),
               'cudnn_benchmark': ('cudnn_benchmark',), 'dist_params': ('dist_cfg',)}

GONE = {'gpu_ids': 'the command line says which device', 'device': 'the command line says which device'}


def upgrade_runtime(work: Work, by_iteration: bool) -> None:
    """Make of `checkpoint_config`, `log_config`, `custom_hooks` and the small entries those of 3.x.

    Args:
        work: the upgrade.
        by_iteration: the run counts iterations; so do its checkpoints and its log then.
    """
    whole = 'default_hooks' not in work.cfg and ('checkpoint_config' in work.cfg or 'log_config' in work.cfg)
    if whole:
        work.cfg['default_hooks'] = {key: {'type': kind} for key, kind in DEFAULT_HOOKS.items()}
        work.cfg.setdefault('default_scope', 'mmdet')
    _checkpoint(work, by_iteration)
    _log(work, by_iteration)
    _custom_hooks(work)
    _environment(work)
    _beginning(work)
    workflow = work.take('workflow')
    if any(step[0] != 'train' for step in workflow or ()):
        work.changes.note('workflow', '', 'losses are not taken on the validation set; it is scored by its evaluator')
    for key, why in GONE.items():
        if work.take(key) is not None:
            work.changes.note(key, '', why)
    imports = work.cfg.get('custom_imports')
    if isinstance(imports, ConfigDict) and isinstance(imports.get('imports'), list):
        imports['imports'] = work.like(imports['imports'], [
            'mmpretrain' + n[5:] if isinstance(n, str) and (n + '.').startswith('mmcls.') else n
            for n in imports['imports']])


def _checkpoint(work: Work, by_iteration: bool) -> None:
    said = work.settings('checkpoint_config')
    said.pop('_delete_', None)
    if by_iteration:
        said.setdefault('by_epoch', False)
    hook = ConfigDict()
    for key in list(said):
        if key not in CHECKPOINT:
            work.changes.note(f'checkpoint_config.{key}', '', 'checkpoints are kept without it')
        elif said[key] is not None:
            work.changes.note(f'checkpoint_config.{key}', f'default_hooks.checkpoint.{key}')
            work.move(said, key, hook)
    if hook:
        work.merge(work.cfg, 'default_hooks', ConfigDict(checkpoint=hook), 'checkpoint_config')


def _log(work: Work, by_iteration: bool) -> None:
    if 'log_config' not in work.cfg:
        return
    said = work.settings('log_config')
    hook = ConfigDict()
    if 'interval' in said:
        work.changes.note('log_config.interval', 'default_hooks.logger.interval')
        work.move(said, 'interval', hook)
        work.merge(work.cfg, 'default_hooks', ConfigDict(logger=hook), 'log_config')
    processor = ConfigDict(type='LogProcessor') if 'log_processor' not in work.cfg else ConfigDict()
    if 'interval' in hook:
        processor['window_size'] = hook['interval']    # a line of 2.x has the means since the last
    if by_iteration or 'log_processor' not in work.cfg:
        processor['by_epoch'] = not by_iteration
    work.merge(work.cfg, 'log_processor', processor, 'log_config')
    if 'hooks' in said or 'visualizer' not in work.cfg:
        _backends(work, list(said.get('hooks') or ()))


def _backends(work: Work, hooks: list[Any]) -> None:
    """Hooks that write records somewhere are backends of the visualizer."""
    backends = [ConfigDict(type='LocalVisBackend')]
    for hook in hooks:
        kind = str(hook.get('type'))
        if kind in BACKENDS:
            backend: ConfigDict = work.like(hook, {'type': BACKENDS[kind]})
            for key in KEPT:
                if key in hook:
                    work.put(backend, PLACES[key], hook[key], hook, key)
            backends.append(backend)
            work.changes.note(f'log_config.hooks: {kind}', f'visualizer.vis_backends: {BACKENDS[kind]}')
        elif kind == 'TextLoggerHook':
            work.changes.note('log_config.hooks: TextLoggerHook', 'visualizer.vis_backends: LocalVisBackend')
        else:
            work.changes.note(f'log_config.hooks: {kind}', '', 'there is no backend for it; log.jsonl has all records')
    old = work.cfg.get('visualizer') or ConfigDict(type='DetLocalVisualizer', name='visualizer')
    work.cfg['vis_backends'] = [work.copy(b) for b in backends]
    work.cfg['visualizer'] = old
    old['vis_backends'] = backends


# ---- custom hooks ----

def _custom_hooks(work: Work) -> None:
    hooks = work.cfg.get('custom_hooks')
    if not isinstance(hooks, list):
        return
    out = []
    for hook in hooks:
        kind = str(hook.get('type', '')).removeprefix('mmdet.') if isinstance(hook, ConfigDict) else ''
        new = HOOKS[kind](work, hook) if kind in HOOKS else hook
        if new is not None:
            out.append(new)
    if out or not hooks:
        work.put(work.cfg, 'custom_hooks', work.like(hooks, out), work.cfg, 'custom_hooks')
    else:
        work.take('custom_hooks')


def _without(*gone: str, type: str | None = None) -> Callable[[Work, ConfigDict], ConfigDict]:
    """A hook without some of its arguments."""
    def change(work: Work, hook: ConfigDict) -> ConfigDict:
        new: ConfigDict = work.like(hook, {k: v for k, v in hook.items() if k not in gone})
        for key in gone:
            if key in hook:
                work.changes.note(f'custom_hooks: {hook["type"]}.{key}', '', 'the hook has no such argument any more')
        if type is not None:
            new['type'] = type
        return new
    return change


def _needless(why: str) -> Callable[[Work, ConfigDict], None]:
    def change(work: Work, hook: ConfigDict) -> None:
        work.changes.note(f'custom_hooks: {hook["type"]}', '', why)
    return change


def _average(work: Work, hook: ConfigDict) -> ConfigDict:
    """The hooks that average the weights; the linear one of 2.x warms up otherwise than any of 3.x."""
    kind = hook['type']
    exponential = kind == 'ExpMomentumEMAHook'
    new: ConfigDict = work.like(hook, {'type': 'EMAHook', 'ema_type': 'ExpMomentumEMA' if exponential else
                                       'ExponentialMovingAverage'})
    work.put(new, 'momentum', hook.get('momentum', 0.0002), hook, 'momentum')
    if exponential and 'total_iter' in hook:
        work.put(new, 'gamma', hook['total_iter'], hook, 'total_iter')
    new['update_buffers'] = not hook.get('skip_buffers', False)
    for key in ('interval', 'priority'):
        if key in hook:
            work.put(new, key, hook[key], hook, key)
    work.changes.note(f'custom_hooks: {kind}', 'custom_hooks: EMAHook', f'ema_type={new["ema_type"]!r}')
    if not exponential:
        work.changes.note(f'custom_hooks: {kind}.warm_up', '', 'the average has its full momentum from the beginning')
    if hook.get('resume_from'):
        work.changes.note(f'custom_hooks: {kind}.resume_from', '', 'a checkpoint has its average in it')
    return new


def _random_size(work: Work, hook: ConfigDict) -> None:
    """`SyncRandomSizeHook` of early YOLOX: sizes in steps of 32 pixels."""
    low, high = hook.get('ratio_range', (14, 26))
    augment = ConfigDict(type='BatchSyncRandomResize', random_size_range=(low * 32, high * 32), size_divisor=32,
                         interval=hook.get('interval', 1))
    work.changes.note('custom_hooks: SyncRandomSizeHook', 'model.data_preprocessor.batch_augments')
    model = work.cfg.get('model')
    if isinstance(model, ConfigDict):
        home = model.setdefault('data_preprocessor', ConfigDict(type='DetDataPreprocessor'))
        home['batch_augments'] = [augment]


HOOKS: Mapping[str, Callable[[Work, ConfigDict], ConfigDict | None]] = {
    'NumClassCheckHook': _needless('every training holds the classes against the heads'),
    'SetEpochInfoHook': _needless('models are told the epoch without it'),
    'SyncNormHook': _without('num_last_epochs', 'interval'),
    'YOLOXModeSwitchHook': _without(),
    'ExpMomentumEMAHook': _average, 'LinearMomentumEMAHook': _average, 'EMAHook': _average,
    'SyncRandomSizeHook': _random_size}
"""What becomes of hooks; those that are not here stay as they are."""


# ---- the environment, and where a run begins ----

def _environment(work: Work) -> None:
    env = ConfigDict()
    for key, place in ENVIRONMENT.items():
        value = work.take(key)
        if value is None:
            continue
        target = env if len(place) == 1 else env.setdefault(place[0], ConfigDict())
        work.put(target, place[-1], value, work.cfg, key)
        work.changes.note(key, f'env_cfg.{".".join(place)}')
    if not env:
        return
    if 'env_cfg' not in work.cfg:
        env = ConfigDict(cudnn_benchmark=env.pop('cudnn_benchmark', False), **env)
    work.cfg.setdefault('env_cfg', ConfigDict())
    for key, value in env.items():
        work.merge(work.cfg['env_cfg'], key, value, 'dist_params')


def _beginning(work: Work) -> None:
    """Which checkpoint to go on from or begin with, and the seed."""
    source = work.take('resume_from')
    if source is not None:
        work.put(work.cfg, 'load_from', source, work.cfg, 'resume_from')
        work.put(work.cfg, 'resume', True, work.cfg, 'resume_from')
        work.changes.note('resume_from', 'load_from', 'with resume=True')
    if work.take('auto_resume'):
        work.cfg['resume'] = True
        work.changes.note('auto_resume', 'resume')
    if 'load_from' in work.cfg:
        work.cfg.setdefault('resume', False)
    for key in ('seed', 'deterministic'):
        value = work.take(key)
        if value is not None:
            work.merge(work.cfg, 'randomness', ConfigDict({key: value}), key)
            work.changes.note(key, f'randomness.{key}')
