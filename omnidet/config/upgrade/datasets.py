"""Data sets of 2.x: paths, classes, filters, and the data sets that wrap others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omnidet.config.data_root import iter_datasets
from omnidet.config.nodes import ConfigDict
from omnidet.config.resolve import is_file
from omnidet.config.upgrade.work import Work, listed, replaces

Pipelines = Callable[[list[Any]], list[Any]]
"""Makes a pipeline of 3.x of one of 2.x."""

WRAPPERS: Mapping[str, tuple[str, ...]] = {
    'RepeatDataset': ('times',),
    'ClassBalancedDataset': ('oversample_thr',),
    'MultiImageMixDataset': ('pipeline', 'skip_type_keys', 'max_refetch'),
    'ConcatDataset': ()}
"""Data sets made of others, and their own arguments."""

XML = ('VOCDataset', 'XMLDataset')
OPEN_IMAGES = ('OpenImagesDataset', 'OpenImagesChallengeDataset')

PATHS = {'ann_file': ('ann_file',), 'img_prefix': ('data_prefix', 'img'), 'seg_prefix': ('data_prefix', 'seg'),
         'proposal_file': ('proposal_file',), 'label_file': ('label_file',), 'hierarchy_file': ('hierarchy_file',),
         'meta_file': ('meta_file',), 'image_level_ann_file': ('image_level_ann_file',)}
"""Where the files and folders of a data set are named: in 2.x, and in 3.x, relative to `data_root` in both."""

NAMES = {'seg_suffix': 'seg_map_suffix', 'file_client_args': 'backend_args'}
GONE = {'dynamic_scale': 'BatchSyncRandomResize in the preprocessor does it',
        'separate_eval': 'the data sets are scored together',
        'get_supercategory': 'the evaluator has it', 'get_metas': '', 'load_from_file': '', 'load_from_pkl': ''}


def upgrade_dataset(work: Work, new: Any, old: Any, split: str, pipelines: Pipelines, at: tuple[str, str]) -> Any:
    """The data set that `new` of 2.x describes, over what `old` of 3.x has already.

    Args:
        work: the upgrade.
        new: a data set, or a list of them to be joined; consumed.
        old: the data set of 3.x that the config inherits; None where it inherits none.
        split: 'train', 'val' or 'test'.
        pipelines: what pipelines become.
        at: where `new` lies, and where the result will.
    """
    if isinstance(new, (list, tuple)):
        new = ConfigDict(type='ConcatDataset', datasets=list(new))
    if replaces(new):
        old = None
    if _is_concat(new):
        return _concat(work, new, split, pipelines, at)
    wraps = 'dataset' in new
    if old is not None and not wraps and _inner(old):
        return _over_wrapper(work, new, old, split, pipelines, at)
    if not wraps:
        return _leaf(work, new, old if isinstance(old, ConfigDict) else None, split, pipelines, at)
    around = old if isinstance(old, ConfigDict) and 'dataset' in old else ConfigDict()
    inner = around['dataset'] if around else old
    inside = (f'{at[0]}.dataset', f'{at[1]}.dataset')
    dataset = upgrade_dataset(work, new.pop('dataset'), inner, split, pipelines, inside)
    out: ConfigDict = work.like(new, around)
    _wrapper_arguments(work, new, out, pipelines, at)
    out['dataset'] = dataset
    return out


def _inner(dataset: Any) -> bool:
    return isinstance(dataset, dict) and ('dataset' in dataset or 'datasets' in dataset)


def _over_wrapper(work: Work, new: ConfigDict, old: ConfigDict, split: str, pipelines: Pipelines, at: tuple[str, str]
                  ) -> ConfigDict:
    """What is said of a data set holds for those that a wrapper of 3.x has inside; its own arguments are its own."""
    own = WRAPPERS.get(str(old.get('type')), ())
    out: ConfigDict = work.like(old, old)
    mine = ConfigDict()
    for key in [k for k in new if k in own]:
        work.move(new, key, mine)
    _wrapper_arguments(work, mine, out, pipelines, at)
    if new.get('type') in (*WRAPPERS, None):
        new.pop('type', None)
    key = 'dataset' if 'dataset' in old else 'datasets'
    inside = (at[0], f'{at[1]}.{key}')
    each = [upgrade_dataset(work, work.copy(new), inner, split, pipelines, inside) for inner in listed(old[key])]
    out[key] = each[0] if key == 'dataset' else each
    return out


def _wrapper_arguments(work: Work, new: ConfigDict, out: ConfigDict, pipelines: Pipelines, at: tuple[str, str]) -> None:
    if isinstance(new.get('pipeline'), list):
        work.put(new, 'pipeline', pipelines(new['pipeline']), new, 'pipeline')
    for key in list(new):
        if key in GONE or key == 'filter_empty_gt':
            work.changes.note(f'{at[0]}.{key}', '', GONE.get(key, 'the data set inside filters'))
        elif new[key] is not None or key in out:
            work.move(new, key, out)


# ---- several data sets in a row ----

def _is_concat(new: ConfigDict) -> bool:
    return 'datasets' in new or isinstance(new.get('ann_file'), (list, tuple)) \
        or (isinstance(new.get('img_prefix'), (list, tuple)))


def _concat(work: Work, new: ConfigDict, split: str, pipelines: Pipelines, at: tuple[str, str]) -> Any:
    """`ConcatDataset` with its data sets; also of one that lists several annotation files."""
    parts = listed(new.pop('datasets')) if 'datasets' in new else list(_split(work, new, at[0]))
    for key in [k for k in new if k in GONE]:
        if new.pop(key) is not True:
            work.changes.note(f'{at[0]}.{key}', '', GONE[key])
    inside = (at[0], f'{at[1]}.datasets')
    datasets = [upgrade_dataset(work, part, None, split, pipelines, inside) for part in parts]
    if len(datasets) == 1:
        return datasets[0]
    out: ConfigDict = work.like(new, {'type': 'ConcatDataset'})
    if any(d.get('type') in XML for d in datasets):
        out['ignore_keys'] = ['dataset_type']    # those of 2007 and of 2012 say so in their meta data
    out['datasets'] = datasets
    work.changes.note(at[0], f'{at[1]}.datasets', 'several data sets in a row')
    return out


def _split(work: Work, new: ConfigDict, path: str) -> Iterator[ConfigDict]:
    """A data set for each annotation file of one that lists several."""
    lists = {k: list(new[k]) for k in PATHS if isinstance(new.get(k), (list, tuple))}
    count = max(map(len, lists.values()))
    for key, values in lists.items():
        if len(values) != count:
            work.fail(new, key, f'{path}.{key}', f'{len(values)} entries, where other lists have {count}')
    for i in range(count):
        part = work.copy(new)
        for key, values in lists.items():
            work.put(part, key, values[i], new, key)
        yield part


# ---- one data set ----

def _leaf(work: Work, new: ConfigDict, old: ConfigDict | None, split: str, pipelines: Pipelines, at: tuple[str, str]
          ) -> ConfigDict:
    """One data set over what is inherited, its arguments in the order that 3.x writes them in."""
    kind = str(new.get('type') or (old or ConfigDict()).get('type') or '')
    out: ConfigDict = work.like(new, {})
    work.move(new, 'type', out)
    _paths(work, new, old, out, kind, at)
    _meta(work, new, out, at)
    _filters(work, new, out, kind, split, old is None, at)
    if isinstance(new.get('pipeline'), list):
        work.put(out, 'pipeline', pipelines(new.pop('pipeline')), new, 'pipeline')
    new.pop('test_mode', None)
    if new.get('file_client_args') and new['file_client_args'].get('backend') == 'disk':
        del new['file_client_args']
    for key in list(new):
        if key in GONE:
            work.changes.note(f'{at[0]}.{key}', '', GONE[key])
        elif new[key] is not None:
            work.move(new, key, out, NAMES.get(key, key))
    if old is None:
        return out
    around = ConfigDict(dataset=old)
    work.merge(around, 'dataset', out, 'data')
    merged: ConfigDict = around['dataset']
    return merged


def _paths(work: Work, new: ConfigDict, old: ConfigDict | None, out: ConfigDict, kind: str, at: tuple[str, str]
           ) -> None:
    """Files and folders, relative to the config's `data_root` where all of them lie below it."""
    said = {k: new[k] for k in PATHS if isinstance(new.get(k), str)}
    root = new.get('data_root')
    if old is not None and not said and root is None:
        return
    places = {**PATHS, 'img_prefix': ('data_prefix', 'sub_data_root')} if kind in XML else PATHS
    whole = {k: joined(root or '', v) for k, v in said.items()}
    before = old.get('data_root') or '' if old is not None else ''
    for key, place in places.items() if old is not None else ():
        inherited = _at(old, place)
        if key not in said and isinstance(inherited, str):
            whole[key] = joined(before if root is None else root, inherited)
    chosen = next((r for r in (work.cfg.get('data_root'), root, before)
                   if isinstance(r, str) and r and all(relative(r, v) is not None for v in whole.values())), '')
    if chosen or before or root:
        work.put(out, 'data_root', chosen, new, 'data_root')
    for key, value in whole.items():
        *outer, name = places[key]
        target = out.setdefault(outer[0], ConfigDict()) if outer else out
        work.put(target, name, relative(chosen, value) if chosen else value, new, key)
        if key in said:
            work.changes.note(f'{at[0]}.{key}', f'{at[1]}.{".".join(places[key])}')
    for key in PATHS:
        new.pop(key, None)
    new.pop('data_root', None)


def _at(box: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        box = box.get(key) if isinstance(box, dict) else None
    return box


def joined(root: str, path: str) -> str:
    """`path` below `root`, unless it is below it already, or stands for itself."""
    if not path:
        return root
    whole = path.startswith('/') or '://' in path or path[1:2] == ':' or relative(root, path) is not None
    return path if whole or not root else f'{root.rstrip("/")}/{path}'


def relative(root: str, path: str) -> str | None:
    """What to add to `root` to get to `path`; None where that lies elsewhere."""
    folder = root.rstrip('/') + '/'
    if path.rstrip('/') + '/' == folder:
        return ''
    return path[len(folder):] if path.startswith(folder) else None


def _meta(work: Work, new: ConfigDict, out: ConfigDict, at: tuple[str, str]) -> None:
    """`classes` and `palette`."""
    given = ConfigDict()
    if new.get('classes') is not None:
        work.put(given, 'classes', class_names(work, new, f'{at[0]}.classes'), new, 'classes')
        work.changes.note(f'{at[0]}.classes', f'{at[1]}.metainfo.classes')
    if new.get('palette') is not None:
        work.put(given, 'palette', new['palette'], new, 'palette')
    for key in ('classes', 'palette'):
        new.pop(key, None)
    if given:
        out['metainfo'] = given


def class_names(work: Work, box: ConfigDict, path: str) -> tuple[str, ...]:
    """Names in a tuple: a list of them, a text file with one on a line, or one name.

    Raises:
        ConfigError: they are none of these, or the file cannot be read.
    """
    value = box['classes']
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if not isinstance(value, str):
        work.fail(box, 'classes', path, f'it is a list of names, or the path of a text file of them; found {value!r}')
    for place in (Path(), *work.file.resolve().parents):
        if is_file(place / value):
            try:
                return tuple(line.strip() for line in (place / value).read_text('utf-8').splitlines() if line.strip())
            except (OSError, UnicodeDecodeError) as e:
                work.fail(box, 'classes', path, f'{value} cannot be read: {e}')
    if '/' in value or value.endswith(('.txt', '.names', '.csv')):
        work.fail(box, 'classes', path, f'there is no file {value}; a text file with one name on each line is wanted, '
                                        "or the names themselves: ('cat', 'dog')")
    return (value,)


def _filters(work: Work, new: ConfigDict, out: ConfigDict, kind: str, split: str, whole: bool, at: tuple[str, str]
             ) -> None:
    """`filter_cfg` of training images: without an object, or below 32 pixels; `test_mode` for all others."""
    empty, least = new.pop('filter_empty_gt', None), new.pop('min_size', None)
    if split != 'train':
        out['test_mode'] = True
        return
    given = ConfigDict()
    if whole and kind not in OPEN_IMAGES:
        given.update(filter_empty_gt=True, min_size=32)
    if empty is not None:
        given['filter_empty_gt'] = empty
        work.changes.note(f'{at[0]}.filter_empty_gt', f'{at[1]}.filter_cfg.filter_empty_gt')
    if least is not None:
        given['bbox_min_size'] = least
        work.changes.note(f'{at[0]}.min_size', f'{at[1]}.filter_cfg.bbox_min_size')
    if given:
        out['filter_cfg'] = given


def leaves(dataset: Any) -> list[Any]:
    """The data sets that name files, below any wrappers."""
    return list(iter_datasets(dataset))
