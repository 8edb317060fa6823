"""`--data-root`: point every data set of a config, and what scores it, at another folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from omnidet.errors import DatasetError

SPLITS = ('train', 'val', 'test')
Node = MutableMapping[str, Any]


def set_data_root(cfg: Node, root: Path, splits: Iterable[str] = SPLITS) -> None:
    """Make `root` the data root of all data sets and evaluators of `cfg`, in place.

    Files keep their names relative to the root. An evaluator scores against the annotation file of its own data set.

    Args:
        cfg: a whole config.
        root: the folder with the user's data.
        splits: what will be used, of 'train', 'val' and 'test': their annotation files must be there.

    Raises:
        DatasetError: an annotation file is missing; the message says what is expected and what lies in the folder.
    """
    moved: set[int] = set()    # `test_evaluator = val_evaluator` is one dict under two names
    for split in SPLITS:
        old_roots: set[str] = set()
        sets = list(iter_datasets(cfg.get(f'{split}_dataloader')))
        for dataset in sets:
            old = dataset.get('data_root') or ''
            old_roots.add(old)
            if id(dataset) in moved:
                continue
            moved.add(id(dataset))
            dataset['data_root'] = _as_root(root)
            _move_strings(dataset, old, root, keep=('data_root',))
        for evaluator in _evaluators(cfg.get(f'{split}_evaluator')):
            for old in old_roots if id(evaluator) not in moved else ():
                _move_strings(evaluator, old, root, keep=('outfile_prefix',))
            moved.add(id(evaluator))
            if 'ann_file' in evaluator and len(sets) == 1 and sets[0].get('ann_file'):
                evaluator['ann_file'] = str(root / sets[0]['ann_file'])
    for split in splits:
        for dataset in iter_datasets(cfg.get(f'{split}_dataloader')):
            _check_files(dataset, root, split)


def iter_datasets(node: Any) -> Iterator[Node]:
    """The data sets inside a dataloader's config: the dicts that name files, below any wrappers."""
    if isinstance(node, MutableMapping):
        inner = [node[k] for k in ('dataset', 'datasets') if k in node]
        if inner:
            for child in inner:
                yield from iter_datasets(child)
        elif 'ann_file' in node or 'data_root' in node:
            yield node
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from iter_datasets(child)


def _evaluators(node: Any) -> Sequence[Node]:
    if isinstance(node, MutableMapping):
        return [node]
    return [e for e in node or () if isinstance(e, MutableMapping)]


def _as_root(root: Path) -> str:
    return f'{root.as_posix().rstrip("/")}/'


def _move_strings(node: Node, old: str, root: Path, keep: Sequence[str]) -> None:
    """Every string of `node` that begins with the old root begins with the new one."""
    if not old:
        return
    for key, value in node.items():
        if key in keep:
            continue
        if isinstance(value, str) and value.startswith(old):
            node[key] = _as_root(root) + value[len(old):].lstrip('/')
        elif isinstance(value, MutableMapping):
            _move_strings(value, old, root, keep)


def _check_files(dataset: Node, root: Path, split: str) -> None:
    if not root.is_dir():
        raise DatasetError(f'--data-root {root}: there is no such folder')
    ann_file = dataset.get('ann_file')
    if not ann_file or '://' in ann_file or (root / ann_file).exists():
        return
    prefix = dataset.get('data_prefix') or {}
    expected = [ann_file, *(f'{p.rstrip("/")}/' for p in prefix.values() if isinstance(p, str) and p)]
    there = sorted({f'{p.relative_to(root)}{"/" * p.is_dir()}'
                    for pattern in ('*', '*/*.json') for p in root.glob(pattern) if not p.name.startswith('.')})
    raise DatasetError(
        f'--data-root {root}: the {split} set of this config is not in it\n'
        f'  expected: {", ".join(expected)}\n'
        f'  found:    {", ".join(there[:12]) + (", ..." if len(there) > 12 else "") or "nothing"}\n'
        f'Where your files have other names, say so in a config of your own, or for one run:\n'
        f'  --cfg-options {split}_dataloader.dataset.ann_file=FILE.json '
        f'{split}_dataloader.dataset.data_prefix.img=FOLDER/')
