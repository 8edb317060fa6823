"""`runner` of 2.x as `train_cfg`, and `lr_config` as `param_scheduler`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnidet.config.nodes import ConfigDict
from omnidet.config.upgrade.curve import WARMUP, Curve
from omnidet.config.upgrade.recognize import is_loop
from omnidet.config.upgrade.work import Work, replaces

RUNNERS = {'EpochBasedRunner': 'max_epochs', 'IterBasedRunner': 'max_iters'}
LOOPS = {'max_epochs': 'EpochBasedTrainLoop', 'max_iters': 'IterBasedTrainLoop'}


# ---- how long ----

def upgrade_runner(work: Work) -> None:
    """Make of `runner`, `total_epochs` or `total_iters` the training loop.

    Raises:
        ConfigError: they contradict each other, or there is no such runner.
    """
    runner = work.settings('runner')
    runner.pop('_delete_', None)
    length = ConfigDict()
    for key in ('max_epochs', 'max_iters'):
        if runner.get(key) is not None:
            work.changes.note(f'runner.{key}', f'train_cfg.{key}')
            work.move(runner, key, length)
    for key, name in (('total_epochs', 'max_epochs'), ('total_iters', 'max_iters')):
        total = work.cfg.get(key)
        if total is None:
            continue
        if length and length != {name: total}:
            work.fail(work.cfg, key, key, f'it is {total}, but runner has {next(iter(length))}='
                                          f'{next(iter(length.values()))}; leave one out')
        work.changes.note(key, f'train_cfg.{name}')
        work.move(work.cfg, key, length, name)
    kind = runner.pop('type', None)
    if kind is not None and kind not in RUNNERS:
        work.one_of(ConfigDict(type=kind), 'type', 'runner.type', RUNNERS) if not length else \
            work.changes.note('runner.type', 'train_cfg.type', f'{kind} is not known; its length is kept')
        kind = None
    if kind is not None and length and list(length) != [RUNNERS[kind]]:
        work.fail(work.cfg, 'runner', 'runner', f'{kind} needs {RUNNERS[kind]}; found {next(iter(length))}')
    for key in runner:
        work.changes.note(f'runner.{key}', '', 'no loop has it')
    if length:
        _put_loop(work, length)


def _put_loop(work: Work, length: ConfigDict) -> None:
    name, most = next(iter(length.items()))
    old = work.cfg.get('train_cfg')
    source = 'runner' if work.origins.of(work.cfg, 'runner') else name.replace('max', 'total')
    if isinstance(old, ConfigDict) and is_loop('train_cfg', old) and name in old:
        before = old[name]
        work.put(old, name, most, length, name)
        _stretch(work, before, most, by_epoch=name == 'max_epochs')
    else:
        loop = ConfigDict(type=LOOPS[name])
        work.put(loop, name, most, length, name)
        work.put(work.cfg, 'train_cfg', loop, work.cfg, source)
    for key, kind in (('val_cfg', 'ValLoop'), ('test_cfg', 'TestLoop')):
        if not work.cfg.get(key):
            work.put(work.cfg, key, ConfigDict(type=kind), work.cfg, source)


def _stretch(work: Work, before: Any, most: Any, by_epoch: bool) -> None:
    """Schedulers that the config inherits, and that last to the end, last to the new one."""
    for s in schedulers(work.cfg):
        if s.get('end') == before and s.get('by_epoch', True) == by_epoch:
            s['end'] = most
            if s.get('T_max') == before - s.get('begin', 0):
                s['T_max'] = most - s.get('begin', 0)


def schedulers(cfg: Mapping[str, Any]) -> list[ConfigDict]:
    found = cfg.get('param_scheduler') or []
    return [found] if isinstance(found, ConfigDict) else list(found)


# ---- the learning rate ----

def upgrade_schedule(work: Work) -> None:
    """Make of `lr_config` and `momentum_config` the schedulers.

    Raises:
        ConfigError: there is no such policy, or it has no such argument, or 3.x has nothing that makes its curve.
    """
    said = work.settings('lr_config')
    if said:
        fresh = replaces(said)
        inherited = [s for s in schedulers(work.cfg) if s.get('param_name', 'lr') == 'lr']
        if inherited and not fresh:
            said = _over(work, said, inherited)
        new = Curve(work, said, 'lr_config', 'LR').schedulers()
        work.put(work.cfg, 'param_scheduler', work.like(said, new), work.cfg, 'lr_config')
        work.changes.note('lr_config', 'param_scheduler', ', '.join(s['type'] for s in new) or 'a constant rate')
    momentum = work.settings('momentum_config')
    if momentum:
        momentum.pop('_delete_', None)
        names = {'min_momentum': 'min_lr', 'min_momentum_ratio': 'min_lr_ratio'}
        renamed = work.like(momentum, {names.get(k, k): v for k, v in momentum.items()})
        more = Curve(work, renamed, 'momentum_config', 'Momentum').schedulers()
        work.put(work.cfg, 'param_scheduler', [*schedulers(work.cfg), *more], work.cfg, 'momentum_config')
        work.changes.note('momentum_config', 'param_scheduler', ', '.join(s['type'] for s in more))


def _over(work: Work, said: ConfigDict, inherited: list[ConfigDict]) -> ConfigDict:
    """`lr_config` over what the inherited schedulers would be in it."""
    before: dict[str, Any] = {}
    for s in inherited:
        kind, by_epoch = s.get('type'), s.get('by_epoch', True)
        if kind in ('LinearLR', 'ConstantLR') and not s.get('begin') and s.get('end') and 'end_factor' not in s:
            before |= dict(warmup='linear' if kind == 'LinearLR' else 'constant', warmup_iters=s['end'],
                           warmup_ratio=s.get('start_factor', s.get('factor', 1 / 3)), warmup_by_epoch=by_epoch)
        elif kind == 'MultiStepLR':
            before |= dict(policy='step', step=s.get('milestones'), gamma=s.get('gamma', 0.1), by_epoch=by_epoch)
        elif kind == 'CosineAnnealingLR' and not s.get('begin'):
            before |= dict(policy='CosineAnnealing', by_epoch=by_epoch and not s.get('convert_to_iter_based'),
                           **{k: s[v] for k, v in (('min_lr', 'eta_min'), ('min_lr_ratio', 'eta_min_ratio')) if v in s})
        elif 'policy' not in said:
            work.fail(work.cfg, 'lr_config', 'lr_config', f'the config inherits a schedule with {kind}, of which this '
                      'cannot change a part; give the whole of it, with its policy')
    if 'policy' in said and said['policy'] != before.get('policy'):
        before = {k: v for k, v in before.items() if k in WARMUP}
    return work.like(said, {**before, **said})
