"""A config of MMDetection 2.x becomes one of 3.x: each entry goes where it is now, over what is there already.

A file of 2.x may inherit from one of 3.x: that of our zoo stands in for the file of the same name in the old zoo. So
the entries of 2.x are a patch. Where nothing is inherited, the patch is the whole experiment.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omnidet.config.nodes import ConfigDict, Origins, dotted, walk
from omnidet.config.upgrade.changes import Change
from omnidet.config.upgrade.dataloaders import upgrade_data
from omnidet.config.upgrade.datasets import leaves
from omnidet.config.upgrade.evaluation import upgrade_evaluation
from omnidet.config.upgrade.model import upgrade_model
from omnidet.config.upgrade.optimizer import upgrade_optimizer
from omnidet.config.upgrade.recognize import LOOP
from omnidet.config.upgrade.runtime import upgrade_runtime
from omnidet.config.upgrade.schedule import upgrade_runner, upgrade_schedule
from omnidet.config.upgrade.work import Work
from omnidet.errors import ConfigError

COCO_CLASSES = 80

DAMAGES = (TypeError, ValueError, AttributeError, KeyError, IndexError)
"""What comes of a value that is of no form that 2.x knows: a number where it has a dict."""


def upgrade(cfg: ConfigDict, origins: Origins, file: Path) -> tuple[Change, ...]:
    """Bring `cfg` into the form of 3.x, in place.

    Args:
        cfg: a config that `is_legacy` recognizes, resolved.
        origins: where its values were written; is told of the new places.
        file: the config file.

    Returns:
        What was changed.

    Raises:
        ConfigError: something in it contradicts itself, or has nothing in 3.x that does the same.
    """
    work = Work(cfg, origins, file)
    had_data = bool(cfg.get('data'))

    def counts_iterations() -> bool:
        return 'max_iters' in (cfg.get('train_cfg') or {})
    steps: dict[str, Callable[[], None]] = {
        'train_cfg': lambda: _model_settings(work),
        'runner': lambda: upgrade_runner(work),
        'checkpoint_config, log_config or custom_hooks': lambda: upgrade_runtime(work, counts_iterations()),
        'data': lambda: upgrade_data(work, counts_iterations()),
        'evaluation': lambda: upgrade_evaluation(work, had_data),
        'lr_config': lambda: upgrade_schedule(work),
        'optimizer, optimizer_config or fp16': lambda: upgrade_optimizer(work),
        'model': lambda: _model(work)}
    for name, step in steps.items():
        try:
            step()
        except DAMAGES as e:
            raise ConfigError(f'{file}: {name}: MMDetection 2.x has nothing of this form: {e}') from e
    return tuple(work.changes)


def _model(work: Work) -> None:
    if isinstance(work.cfg.get('model'), ConfigDict):
        upgrade_model(work.cfg['model'], work.changes)
        _count_classes(work, work.cfg['model'])


def _count_classes(work: Work, model: ConfigDict) -> None:
    """Heads that were left at COCO's 80 classes, for a data set that names others, have as many as it names.

    2.x refused to train such a model; what its author meant is plain.
    """
    sets = leaves((work.cfg.get('train_dataloader') or {}).get('dataset'))
    counts = {len(s.get('metainfo', {}).get('classes', ())) for s in sets if s.get('type') == 'CocoDataset'}
    if len(counts) != 1 or not (count := counts.pop()) or count == COCO_CLASSES:
        return
    for path, head in walk(model, ('model',)):
        if isinstance(head, ConfigDict) and head.get('num_classes') == COCO_CLASSES and 'semantic_head' not in path:
            work.put(head, 'num_classes', count, work.cfg, 'data')
            work.changes.note(dotted((*path, 'num_classes')), dotted((*path, 'num_classes')),
                              f'{COCO_CLASSES} is {count}, as many classes as the data set names')


def _model_settings(work: Work) -> None:
    """`train_cfg` and `test_cfg` at top level were the model's in early 2.x; in 3.x they are loops."""
    for key in ('train_cfg', 'test_cfg'):
        value = work.cfg.get(key)
        if value is None:
            work.cfg.pop(key, None)
        model = work.cfg.get('model')
        if not isinstance(value, ConfigDict) or not isinstance(model, ConfigDict):
            continue
        settings: ConfigDict = work.like(value, {k: v for k, v in value.items() if k not in LOOP})
        for name in settings:
            del value[name]
        if settings:
            work.changes.note(key, f'model.{key}')
            if model.get(key) is None:
                model.pop(key, None)
            work.merge(model, key, settings, key)
        if not value:
            del work.cfg[key]
