"""`data` of 2.x: a dataloader for each split, and with the pipelines in them the model's preprocessor."""

from __future__ import annotations

from typing import Any

from omnidet.config.nodes import ConfigDict, walk
from omnidet.config.upgrade.datasets import upgrade_dataset
from omnidet.config.upgrade.pipelines import LOADS, Facts, is_old, is_test, kind_of, upgrade_pipeline
from omnidet.config.upgrade.preprocessor import upgrade_preprocessor
from omnidet.config.upgrade.recognize import SPLITS
from omnidet.config.upgrade.work import Work

NAMES = {'samples_per_gpu': 'batch_size', 'workers_per_gpu': 'num_workers'}
PASSED = ('batch_size', 'num_workers', 'persistent_workers', 'pin_memory', 'drop_last', 'prefetch_factor')


def upgrade_data(work: Work, by_iteration: bool) -> None:
    """Make of `data` the entries `train_dataloader`, `val_dataloader`, `test_dataloader` and the preprocessor.

    Args:
        work: the upgrade.
        by_iteration: the run counts iterations; then the training sampler has no end.
    """
    data = work.settings('data')
    facts: dict[str, list[Facts]] = {split: [] for split in SPLITS}
    options = {split: _options(work, data, split) for split in SPLITS}
    for split in SPLITS:
        key = f'{split}_dataloader'
        loader = _loader(work, options[split], data.get(split), split, by_iteration)
        dataset = data.get(split)
        if dataset:
            def pipelines(old: list[Any], split: str = split) -> list[Any]:
                if not is_old(old):
                    return old
                new, found = upgrade_pipeline(work, old, None if split == 'train' else annotation_loader(work))
                facts[split].append(found)
                return new
            inherited = (work.cfg.get(key) or {}).get('dataset')
            made = upgrade_dataset(work, dataset, inherited, split, pipelines, (f'data.{split}', f'{key}.dataset'))
            if inherited is not None:
                work.cfg[key].pop('dataset')
            work.put(loader, 'dataset', made, data, split)
        if loader:
            work.merge(work.cfg, key, loader, 'data')
    for key in (k for k in data if k not in (*SPLITS, *(f'{s}_dataloader' for s in SPLITS))):
        work.changes.note(f'data.{key}', '', 'no dataloader has it')
    upgrade_preprocessor(work, facts['train'], [*facts['val'], *facts['test']])
    tta = [f.tta for f in facts['test'] if f.tta]
    if tta:
        _test_time(work, tta[0])
    _named_pipelines(work)


def _options(work: Work, data: ConfigDict, split: str) -> ConfigDict:
    """What is said of a split's dataloader, in three places, as 3.x calls it."""
    said = ConfigDict()
    if 'imgs_per_gpu' in data:
        work.move(data, 'imgs_per_gpu', data, 'samples_per_gpu')
    for key in ('samples_per_gpu', 'persistent_workers') if split == 'train' else ():
        if key in data:
            work.changes.note(f'data.{key}', f'train_dataloader.{NAMES.get(key, key)}')
        work.move(data, key, said)
    if 'workers_per_gpu' in data:
        work.put(said, 'workers_per_gpu', data['workers_per_gpu'], data, 'workers_per_gpu')
        work.changes.note('data.workers_per_gpu', f'{split}_dataloader.num_workers')
    if split == SPLITS[-1]:
        data.pop('workers_per_gpu', None)
    dataset = data.get(split)
    for part in dataset if isinstance(dataset, (list, tuple)) else [dataset]:
        if isinstance(part, ConfigDict) and 'samples_per_gpu' in part:
            work.changes.note(f'data.{split}.samples_per_gpu', f'{split}_dataloader.batch_size')
            work.move(part, 'samples_per_gpu', said)
    own = data.get(f'{split}_dataloader') or ConfigDict()
    for key in list(own):
        work.changes.note(f'data.{split}_dataloader.{key}', f'{split}_dataloader.{NAMES.get(key, key)}')
        work.move(own, key, said)
    for old, new in NAMES.items():
        work.move(said, old, said, new)
    return said


def _loader(work: Work, said: ConfigDict, dataset: Any, split: str, by_iteration: bool) -> ConfigDict:
    """A dataloader without its data set; where the config inherits one, only what is said of it."""
    inherited = work.cfg.get(f'{split}_dataloader')
    whole = dataset and not inherited
    loader = ConfigDict()
    if whole:
        loader.update(batch_size=2 if split == 'train' else 1, num_workers=2)
    for key in PASSED:
        if said.get(key) is not None:
            work.move(said, key, loader)
    if whole:
        loader.setdefault('persistent_workers', loader['num_workers'] > 0)
        if split != 'train':
            loader.setdefault('drop_last', False)
    sampler = _sampler(work, said, split, by_iteration)
    if whole or (inherited and split == 'train' and by_iteration) or said.get('class_aware_sampler'):
        loader['sampler'] = sampler
        if not whole:
            loader['sampler']['_delete_'] = True
    elif 'shuffle' in said and inherited:
        loader['sampler'] = ConfigDict(shuffle=said['shuffle'])
    mixes = isinstance(dataset, dict) and any(kind_of(d) == 'MultiImageMixDataset' for _, d in walk(dataset))
    if whole and split == 'train' and not mixes and sampler.get('shuffle'):
        loader['batch_sampler'] = ConfigDict(type='AspectRatioBatchSampler')
    for key in (k for k in said if k not in ('shuffle', 'class_aware_sampler', *PASSED)):
        work.changes.note(f'data.{split}_dataloader.{key}', '', 'no dataloader has it')
    return loader


def _sampler(work: Work, said: ConfigDict, split: str, by_iteration: bool) -> ConfigDict:
    if said.get('class_aware_sampler'):
        return ConfigDict(type='ClassAwareSampler', **said['class_aware_sampler'])
    kind = 'InfiniteSampler' if split == 'train' and by_iteration else 'DefaultSampler'
    return ConfigDict(type=kind, shuffle=said.get('shuffle', split == 'train'))


def annotation_loader(work: Work) -> ConfigDict:
    """What loads annotations for validation and test: the same kinds as the training pipeline loads."""
    loads = [t for _, t in walk(work.cfg.get('train_dataloader') or {}) if kind_of(t) in LOADS]
    if loads and kind_of(loads[0]) == 'LoadPanopticAnnotations':
        return ConfigDict(type='LoadPanopticAnnotations')
    masks = {'with_mask': True} if loads and loads[0].get('with_mask') else {}
    return ConfigDict(type='LoadAnnotations', with_bbox=True, **masks)


def _test_time(work: Work, pipeline: list[Any]) -> None:
    """`tta_pipeline` and `tta_model`, which merges what is found in the views by the model's own suppression."""
    test_cfg = (work.cfg.get('model') or {}).get('test_cfg') or {}
    test_cfg = test_cfg.get('rcnn') or test_cfg
    nms = work.copy(test_cfg.get('nms')) or ConfigDict(type='nms', iou_threshold=0.5)
    most = test_cfg.get('max_per_img', 100)
    work.put(work.cfg, 'tta_pipeline', pipeline, work.cfg, 'data')
    work.put(work.cfg, 'tta_model', ConfigDict(type='DetTTAModel', tta_cfg=ConfigDict(nms=nms, max_per_img=most)),
             work.cfg, 'data')


def _named_pipelines(work: Work) -> None:
    """Pipelines and data sets that the file has names for (`train_pipeline`), in the form that the dataloaders hold."""
    def pipelines(old: list[Any]) -> list[Any]:
        return upgrade_pipeline(work, old)[0] if is_old(old) else old
    for key, value in list(work.cfg.items()):
        if str(key).endswith('pipeline') and is_old(value):
            test = is_test(value) or str(key).startswith(('test', 'val'))
            new, _ = upgrade_pipeline(work, value, annotation_loader(work) if test else None)
            work.put(work.cfg, key, new, work.cfg, key)
        elif isinstance(value, ConfigDict) and any(isinstance(d, dict) and 'img_prefix' in d for _, d in walk(value)):
            made = upgrade_dataset(work, value, None, 'train', pipelines, (str(key), str(key)))
            work.put(work.cfg, key, made, work.cfg, key)
