"""Is this a config of MMDetection 2.x?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omnidet.config.nodes import Origins, walk
from omnidet.config.resolve import ZOO

SPLITS = ('train', 'val', 'test')
_DATA = ('samples_per_gpu', 'imgs_per_gpu', 'workers_per_gpu', *(f'{s}_dataloader' for s in SPLITS))


def _has(*keys: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and any(k in value for k in keys)


def _is_data(value: Any) -> bool:
    return _has(*_DATA)(value) or (isinstance(value, Mapping) and any(
        isinstance(value.get(s), Mapping) or (isinstance(value.get(s), list) and value[s]) for s in SPLITS))


MARKS: Mapping[str, Callable[[Any], bool]] = {
    'lr_config': _has('policy', 'type', 'step', 'warmup', 'warmup_iters', 'by_epoch', 'min_lr', 'min_lr_ratio'),
    'checkpoint_config': lambda v: isinstance(v, Mapping),
    'log_config': _has('interval', 'hooks'),
    'optimizer_config': lambda v: isinstance(v, Mapping),
    'dist_params': lambda v: isinstance(v, Mapping),
    'workflow': lambda v: isinstance(v, (list, tuple)) and bool(v),
    'data': _is_data,
    'evaluation': _has('interval', 'metric', 'start', 'save_best', 'classwise', 'dynamic_intervals', 'rule'),
    'runner': _has('max_epochs', 'max_iters', 'type'),
    'total_epochs': lambda v: isinstance(v, int),
    'total_iters': lambda v: isinstance(v, int)}
"""Top-level keys by which a file of 2.x is known, and the form of their values there."""

NEW = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator', 'optim_wrapper',
       'param_scheduler', 'default_hooks', 'env_cfg', 'train_cfg', 'val_cfg', 'visualizer', 'log_processor')
"""Entries of 3.x. (`train_cfg` and `test_cfg` at top level were a model's settings in early 2.x; see `is_loop`.)"""

LOOP = frozenset({'type', 'by_epoch', 'max_epochs', 'max_iters', 'val_begin', 'val_interval', 'dynamic_intervals',
                  'fp16'})
"""What `train_cfg`, `val_cfg` and `test_cfg` hold in 3.x."""

KEYS = frozenset({*MARKS, 'optimizer', 'momentum_config', 'fp16', 'resume_from', 'auto_resume', 'seed',
                  'deterministic', 'device', 'gpu_ids', 'opencv_num_threads', 'mp_start_method', 'cudnn_benchmark',
                  'model.pretrained'})
"""What an upgrade takes away: top-level keys, and one within."""


def is_legacy(cfg: Mapping[str, Any], origins: Origins | None = None) -> bool:
    """Whether `cfg` is a config of 2.x, or has entries of 2.x over what it inherits from our zoo.

    Our zoo stands in for the old one, file by file. Any other file of 3.x means what it says: entries of 2.x that are
    left over in it, or in one that inherits from it, are names of its own, as they are to MMDetection 3.x.

    Args:
        cfg: a whole config, resolved.
        origins: tells which file each entry is from; without it, no config with entries of 3.x is one of 2.x.
    """
    found = [key for key, fits in MARKS.items() if key in cfg and fits(cfg[key])]
    new = [key for key in NEW if key in cfg and is_loop(key, cfg[key])]
    if not found or not new:
        return bool(found)
    if origins is None:
        return False
    files = {origin.file for key in new for box, k in _places(cfg, key) if (origin := origins.of(box, k))}
    if not all(Path(file).resolve().is_relative_to(ZOO) for file in files):
        return False
    return any((origin := origins.of(cfg, key)) is not None and origin.file not in files for key in found)


def is_loop(key: str, value: Any) -> bool:
    """Whether an entry with a name of 3.x has its meaning too."""
    return key not in ('train_cfg', 'val_cfg') or (isinstance(value, Mapping) and not set(value) - LOOP)


def _places(cfg: Mapping[str, Any], key: str) -> Iterator[tuple[Any, Any]]:
    """Every dict in `cfg[key]`, and `cfg` itself, with each of its keys there."""
    yield cfg, key
    for _, value in walk(cfg[key]):
        if isinstance(value, Mapping):
            yield from ((value, k) for k in value)
