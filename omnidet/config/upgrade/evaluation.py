"""`evaluation` of 2.x: the evaluators, how often the model is validated, and which of its checkpoints is the best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnidet.config.nodes import ConfigDict
from omnidet.config.upgrade.datasets import OPEN_IMAGES, joined, leaves
from omnidet.config.upgrade.recognize import SPLITS
from omnidet.config.upgrade.work import Work, listed

PREFIXES = {'CocoMetric': 'coco', 'CocoPanopticMetric': 'coco_panoptic', 'CityScapesMetric': 'cityscapes',
            'LVISMetric': 'lvis', 'VOCMetric': 'pascal_voc', 'OpenImagesMetric': 'openimages'}
"""What the names of an evaluator's figures begin with."""

METRICS = {'CocoPanopticDataset': 'CocoPanopticMetric', 'LVISDataset': 'LVISMetric', 'LVISV05Dataset': 'LVISMetric',
           'LVISV1Dataset': 'LVISMetric', 'VOCDataset': 'VOCMetric', 'XMLDataset': 'VOCMetric',
           'WIDERFaceDataset': 'VOCMetric', 'CustomDataset': 'VOCMetric',
           **dict.fromkeys(OPEN_IMAGES, 'OpenImagesMetric')}
"""What measures a data set; every other is measured as COCO."""

LOOP = {'interval': 'val_interval', 'start': 'val_begin', 'dynamic_intervals': 'dynamic_intervals'}
OPTIONS = {
    'CocoMetric': {'classwise': 'classwise', 'proposal_nums': 'proposal_nums', 'iou_thrs': 'iou_thrs',
                   'metric_items': 'metric_items', 'jsonfile_prefix': 'outfile_prefix'},
    'LVISMetric': {'classwise': 'classwise', 'proposal_nums': 'proposal_nums', 'iou_thrs': 'iou_thrs',
                   'metric_items': 'metric_items', 'jsonfile_prefix': 'outfile_prefix'},
    'CocoPanopticMetric': {'classwise': 'classwise', 'jsonfile_prefix': 'outfile_prefix', 'nproc': 'nproc'},
    'VOCMetric': {'iou_thr': 'iou_thrs', 'scale_ranges': 'scale_ranges', 'proposal_nums': 'proposal_nums'},
    'OpenImagesMetric': {'iou_thr': 'iou_thrs', 'ioa_thr': 'ioa_thrs', 'scale_ranges': 'scale_ranges',
                         'use_group_of': 'use_group_of', 'get_supercategory': 'get_supercategory'},
    'CityScapesMetric': {'outfile_prefix': 'outfile_prefix'}}
"""Arguments of `evaluation` that an evaluator has, by their name there."""

CHECKPOINT = ('rule', 'greater_keys', 'less_keys')
GONE = {'gpu_collect': 'results are gathered without it', 'tmpdir': 'results are gathered without it',
        'by_epoch': 'as the loop counts', 'out_dir': 'checkpoints lie in the work folder', 'priority': '',
        'broadcast_bn_buffer': 'buffers are shared before each validation', 'logger': '', 'test_fn': ''}


def upgrade_evaluation(work: Work, had_data: bool) -> None:
    """Make of `evaluation` and the data sets the evaluators, the intervals in `train_cfg`, and `save_best`.

    Args:
        work: the upgrade; its dataloaders are those of 3.x already.
        had_data: the config had `data` of its own.
    """
    said = work.settings('evaluation')
    said.pop('_delete_', None)
    told = set(said)
    for split in SPLITS[1:]:
        if had_data or said:
            _evaluators(work, said, split)
    _loop(work, said)
    _save_best(work, said, (work.cfg.get('val_evaluator')))
    for key in told - {'metric', 'metrics', 'save_best', *LOOP, *CHECKPOINT}:
        homes = [m for m, names in OPTIONS.items() if key in names and any(
            e.get('type') == m for e in listed(work.cfg.get('val_evaluator')))]
        for home in homes:
            work.changes.note(f'evaluation.{key}', f'val_evaluator.{OPTIONS[home][key]}')
        if not homes:
            work.changes.note(f'evaluation.{key}', '', GONE.get(key, 'no evaluator of this data set has it'))


def _evaluators(work: Work, said: ConfigDict, split: str) -> None:
    loader = work.cfg.get(f'{split}_dataloader') or {}
    sets = leaves(loader.get('dataset'))
    instances = [s.pop('ins_ann_file') for s in sets if 'ins_ann_file' in s]
    if not sets:
        return
    first, key = sets[0], f'{split}_evaluator'
    metrics = [str(m) for m in listed(said.get('metric', said.get('metrics')))]
    old = listed(work.cfg.get(key))
    kind = METRICS.get(str(first.get('type')), 'CocoMetric')
    if old and any(e.get('type') == kind for e in old):
        new = [_updated(work, e, said, metrics, first) for e in old]
    else:
        new = _made(work, kind, said, metrics, first, instances)
        work.changes.note('evaluation', key, f'{" and ".join(e["type"] for e in new)}, as the data set is')
    if len({s.get('ann_file') for s in sets}) > 1 and kind not in ('VOCMetric', 'OpenImagesMetric'):
        work.changes.note(f'data.{split}', key, 'only the first of several annotation files is scored against')
    work.put(work.cfg, key, new[0] if len(new) == 1 else new, work.cfg, 'evaluation')


def _files(kind: str, dataset: Mapping[str, Any]) -> ConfigDict:
    """The ground truth that an evaluator reads, which is that of the data set."""
    root, out = dataset.get('data_root') or '', ConfigDict()
    if kind in ('CocoMetric', 'LVISMetric', 'CocoPanopticMetric') and dataset.get('ann_file'):
        out['ann_file'] = joined(root, dataset['ann_file'])
    prefix = (dataset.get('data_prefix') or {}).get('seg')
    if kind == 'CocoPanopticMetric' and prefix is not None:
        out['seg_prefix'] = joined(root, prefix)
    return out


def _updated(work: Work, old: ConfigDict, said: ConfigDict, metrics: list[str], dataset: ConfigDict) -> ConfigDict:
    """An evaluator that the config inherits, with what is said anew."""
    kind = str(old.get('type'))
    files = _files(kind, dataset)
    if 'ann_file' in files and old.get('ann_file') and 'panoptic' in files['ann_file'] and kind == 'CocoMetric':
        files = ConfigDict()    # instances beside a panoptic data set have a file of their own
    new: ConfigDict = work.like(old, {**old, **files})
    mine = [m for m in metrics if (m == 'PQ') == (kind == 'CocoPanopticMetric') and m != 'cityscapes']
    if mine and kind in ('CocoMetric', 'LVISMetric', 'VOCMetric'):
        work.put(new, 'metric', mine[0] if len(mine) == 1 else mine, said, 'metric')
        work.changes.note('evaluation.metric', 'val_evaluator.metric')
    return _options(work, new, said, kind)


def _options(work: Work, new: ConfigDict, said: ConfigDict, kind: str) -> ConfigDict:
    for key, name in OPTIONS.get(kind, {}).items():
        if said.get(key) is not None:
            work.put(new, name, said[key], said, key)
    return new


def _made(work: Work, kind: str, said: ConfigDict, metrics: list[str], dataset: ConfigDict, instances: list[Any]
          ) -> list[ConfigDict]:
    """The evaluators of a data set; the metrics of 2.x decide which, where there are several."""
    new = ConfigDict(type=kind, **_files(kind, dataset))
    rest = [m for m in metrics if m not in ('PQ', 'pq', 'cityscapes')]
    out = [new]
    if kind in ('CocoMetric', 'LVISMetric'):
        _put_metric(work, new, rest or ['bbox'], said)
        if dataset.get('type') == 'Objects365V1Dataset':
            new['sort_categories'] = True
    elif kind == 'VOCMetric':
        _put_metric(work, new, rest or ['mAP'], said)
        folder = f'{dataset.get("data_root")}/{(dataset.get("data_prefix") or {}).get("sub_data_root")}'
        new['eval_mode'] = '11points' if dataset.get('type') == 'VOCDataset' and 'VOC2007' in folder else 'area'
    elif kind == 'OpenImagesMetric':
        new.update(iou_thrs=0.5, ioa_thrs=0.5, use_group_of=True, get_supercategory=True)
    elif rest and instances:
        out.append(_put_metric(work, ConfigDict(type='CocoMetric', ann_file=instances[0]), rest, said))
    elif rest:
        work.changes.note('evaluation.metric', '', f'{", ".join(rest)}: the data set has no ins_ann_file to score them')
    if 'cityscapes' in metrics:
        root = joined(dataset.get('data_root') or '', (dataset.get('data_prefix') or {}).get('img', ''))
        out.append(ConfigDict(type='CityScapesMetric', seg_prefix=root.replace('leftImg8bit', 'gtFine')))
    return [_options(work, e, said, e['type']) for e in out]


def _put_metric(work: Work, evaluator: ConfigDict, metrics: list[str], said: ConfigDict) -> ConfigDict:
    work.put(evaluator, 'metric', metrics[0] if len(metrics) == 1 else metrics, said, 'metric')
    return evaluator


def _loop(work: Work, said: ConfigDict) -> None:
    """How often: in `train_cfg`. Where nothing is said, each epoch."""
    loop = work.cfg.get('train_cfg')
    if not isinstance(loop, ConfigDict) or not (said or 'val_interval' not in loop):
        return
    for key, name in LOOP.items():
        if said.get(key) is not None:
            work.put(loop, name, said[key], said, key)
            work.changes.note(f'evaluation.{key}', f'train_cfg.{name}')
    loop.setdefault('val_interval', 1)
    start, interval = said.get('start'), loop['val_interval']
    if isinstance(start, int) and start % interval:
        work.changes.note('evaluation.start', 'train_cfg.val_begin',
                          f'from {start} on at multiples of {interval}, not every {interval} counted from {start}')


def _save_best(work: Work, said: ConfigDict, evaluators: Any) -> None:
    """`save_best` in the checkpoint hook, by the names that figures have now."""
    hook = ConfigDict()
    best = said.get('save_best')
    if best is not None:
        name = best if best == 'auto' or '/' in str(best) else _figure(str(best), listed(evaluators))
        work.put(hook, 'save_best', name, said, 'save_best')
        work.changes.note('evaluation.save_best', 'default_hooks.checkpoint.save_best',
                          '' if name == best else f"'{best}' is '{name}'")
    for key in CHECKPOINT:
        if said.get(key) is not None:
            work.changes.note(f'evaluation.{key}', f'default_hooks.checkpoint.{key}')
            work.put(hook, key, said[key], said, key)
    if hook:
        work.merge(work.cfg, 'default_hooks', ConfigDict(checkpoint=hook), 'evaluation')


def _figure(name: str, evaluators: list[Any]) -> str:
    kinds = [str(e.get('type')) for e in evaluators]
    if name.startswith(('bbox', 'segm', 'proposal', 'AR')) and 'CocoMetric' in kinds:
        return f'coco/{name}'
    return f'{PREFIXES[kinds[0]]}/{name}' if kinds and kinds[0] in PREFIXES else name
