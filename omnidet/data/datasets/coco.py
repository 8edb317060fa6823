"""COCO's annotation format, read into flat arrays."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omnidet.data.datasets.base import BaseDetDataset
from omnidet.data.datasets.coco_classes import COCO_CLASSES, COCO_PALETTE
from omnidet.data.store import AnnotationStore
from omnidet.errors import DatasetError, did_you_mean
from omnidet.registry import DATASETS

log = logging.getLogger('omnidet')


@DATASETS.register
class CocoDataset(BaseDetDataset):
    """A data set in COCO's format. Arguments as `BaseDetDataset`.

    Labels follow the order of the class names, whatever the ids in the file. `iscrowd` makes a box ignored; boxes below
    a pixel, without area, or wholly outside their image are left out and counted in one warning.
    """

    METAINFO: Mapping[str, Any] = {'classes': COCO_CLASSES, 'palette': COCO_PALETTE}

    def read(self) -> tuple[AnnotationStore, list[int]]:
        """Read, filter and pack the annotations; the store, and the file's category id of each class.

        Raises:
            DatasetError: the file is missing or damaged, is no COCO json, or its classes are others.
        """
        file = read_coco(self.ann_path)
        cat_ids = match_classes(file, self.classes, strict=self.classes_given)
        images = self._filter(file, cat_ids)
        return pack(file, images, cat_ids, self.wants_masks), cat_ids

    def learnable(self, file: CocoFile, cat_ids: Sequence[int]) -> np.ndarray:
        """(M,) bool, the annotations that keep their image when `filter_empty_gt` leaves empty ones out."""
        return np.isin(file.category_of, cat_ids)

    def _filter(self, file: CocoFile, cat_ids: Sequence[int]) -> np.ndarray:
        """The positions of the images that `filter_cfg` and `indices` leave."""
        keep = np.ones(len(file.image_ids), bool)
        if not self.test_mode:
            if self.filter_cfg.get('filter_empty_gt', False):
                keep[:] = False
                keep[file.image_of[self.learnable(file, cat_ids)]] = True
            keep &= file.sizes.min(axis=1) >= self.filter_cfg.get('min_size', 0)
        kept = np.flatnonzero(keep)
        return kept[self.subset(len(kept))]


@dataclass
class CocoFile:
    """A COCO json as columns: I images, M annotations.

    Attributes:
        path: where it came from.
        image_ids, names: of the images.
        sizes: (I, 2) width and height.
        categories: name -> id, in the file's order.
        annotations: the annotations as they stand in the file.
        image_of: (M,) the position of each annotation's image.
        category_of: (M,) category ids.
        boxes: (M, 4) xywh in pixels.
    """

    path: Path
    image_ids: list[Any]
    names: list[str]
    sizes: np.ndarray
    categories: dict[str, int]
    annotations: list[dict[str, Any]]
    image_of: np.ndarray
    category_of: np.ndarray
    boxes: np.ndarray


def read_coco(path: Path) -> CocoFile:
    """Read a COCO json and check it.

    Raises:
        DatasetError: naming the file, and the field that is missing or wrong.
    """
    return parse_coco(path, load_json(path))


def parse_coco(path: Path, data: Any) -> CocoFile:
    """The content of a COCO json as columns; `path` is where it came from.

    Raises:
        DatasetError: naming the file, and the field that is missing or wrong.
    """
    images, annotations, categories = (_rows(path, data, k) for k in ('images', 'annotations', 'categories'))
    image_ids = _column(path, 'images', images, 'id')
    _unique(path, 'images', 'id', image_ids)
    sizes = _numbers(path, 'images', [[w, h] for w, h in zip(_column(path, 'images', images, 'width'),
                                                             _column(path, 'images', images, 'height'), strict=True)],
                     'width and height', 2, np.int64)
    names = _column(path, 'categories', categories, 'name')
    ids = _column(path, 'categories', categories, 'id')
    _unique(path, 'categories', 'id', ids)
    _numbers(path, 'categories', [[i] for i in ids], 'id', 1, np.int64)
    _unique(path, 'categories', 'name', names)
    if 'id' in (annotations[0] if annotations else ()):
        _unique(path, 'annotations', 'id', _column(path, 'annotations', annotations, 'id'))
    position = {image_id: i for i, image_id in enumerate(image_ids)}
    image_of = _look_up(path, annotations, 'image_id', position, 'images')
    category_of = _look_up(path, annotations, 'category_id', {c: c for c in ids}, 'categories')
    boxes = _numbers(path, 'annotations', _column(path, 'annotations', annotations, 'bbox'), 'bbox', 4, np.float64)
    return CocoFile(path, image_ids, [str(n) for n in _column(path, 'images', images, 'file_name')], sizes,
                    dict(zip(map(str, names), ids, strict=True)), annotations, image_of, category_of, boxes)


def load_json(path: Path) -> Any:
    """A json file's content.

    Raises:
        DatasetError: it is missing, or no json; where it breaks off is said.
    """
    if not path.is_file():
        where = next((p for p in path.parents if p.is_dir()), Path('/'))
        raise DatasetError(f'{path}: there is no such annotation file (ann_file, relative to data_root); '
                           f'the folder {where} exists')
    collecting = gc.isenabled()
    gc.disable()    # a big file is millions of objects, none of them garbage
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as e:
        raise DatasetError(f'{path}: this is no whole json file: {e.msg} at line {e.lineno}, column {e.colno} of a '
                           f'file of {path.stat().st_size} bytes') from None
    except (UnicodeDecodeError, RecursionError, OSError) as e:
        raise DatasetError(f'{path}: this is no json file: {e}') from None
    finally:
        if collecting:
            gc.enable()


def match_classes(file: CocoFile, classes: Sequence[str], strict: bool) -> list[int]:
    """The file's category id of each class, by name.

    Args:
        file: the annotations.
        classes: the names to look up.
        strict: every class must be in the file; otherwise every category of the file must be a class, and a class that
            the file lacks gets -1.

    Raises:
        DatasetError: listing both sets of names.
    """
    lacking = [c for c in classes if c not in file.categories]
    foreign = [c for c in file.categories if c not in classes]
    if (strict and lacking) or (not strict and (foreign or len(lacking) == len(classes))):
        near = did_you_mean(lacking[0], file.categories) if lacking else ''
        raise DatasetError(
            f'{file.path}: the classes do not match the categories of the file{near}\n'
            f'  metainfo.classes{"" if strict else " (COCO, for none are given)"}: {_listed(classes)}\n'
            f'  categories in the file: {_listed(list(file.categories))}\n'
            f'  set metainfo=dict(classes=(...)) of the data set, and num_classes of the model, to names of the file')
    return [file.categories.get(c, -1) for c in classes]


def pack(file: CocoFile, images: np.ndarray, cat_ids: Sequence[int], with_masks: bool) -> AnnotationStore:
    """The annotations of some images and classes as a store; those that cannot be learnt from are counted and left out.

    Args:
        file: the annotations.
        images: positions of the images to keep, in the order to keep them in.
        cat_ids: the category id of each label.
        with_masks: keep segmentations.
    """
    rows = file.annotations
    x, y, w, h = file.boxes.T
    sizes = file.sizes[file.image_of].reshape(-1, 2)
    overlap_w = np.minimum(x + w, sizes[:, 0]) - np.maximum(x, 0)
    overlap_h = np.minimum(y + h, sizes[:, 1]) - np.maximum(y, 0)
    area = np.array([1.0 if (a := r.get('area')) is None else a for r in rows], np.float64)
    usable = (overlap_w > 0) & (overlap_h > 0) & (w >= 1) & (h >= 1) & (area > 0)
    rank = np.full(len(file.image_ids), -1)
    rank[images] = np.arange(len(images))
    wanted = np.isin(file.category_of, cat_ids) & (rank[file.image_of] >= 0)
    wanted &= ~np.array([bool(r.get('ignore', False)) for r in rows], bool)
    _report(file, np.flatnonzero(wanted & ~usable), int(wanted.sum()))
    chosen = np.flatnonzero(wanted & usable)
    chosen = chosen[np.argsort(rank[file.image_of[chosen]], kind='stable')]
    label = {cat_id: n for n, cat_id in enumerate(cat_ids)}
    return AnnotationStore(
        [dict(img_id=file.image_ids[i], file_name=file.names[i], width=int(file.sizes[i, 0]),
              height=int(file.sizes[i, 1])) for i in images.tolist()],
        counts=np.bincount(rank[file.image_of[chosen]], minlength=len(images)),
        boxes=np.stack([x, y, x + w, y + h], axis=1)[chosen],
        labels=np.array([label[c] for c in file.category_of[chosen].tolist()]),
        ignore=np.array([bool(rows[i].get('iscrowd', 0)) for i in chosen.tolist()]),
        masks=[rows[i].get('segmentation') for i in chosen.tolist()] if with_masks else None,
        segment_ids=np.array([rows[i]['segment_id'] for i in chosen.tolist()])
        if rows and 'segment_id' in rows[0] else None)


def _report(file: CocoFile, unusable: np.ndarray, total: int) -> None:
    if len(unusable):
        first = file.annotations[unusable[0]]
        log.warning('%s: %d of %d annotations are left out: their boxes have no area, or lie outside their image; the '
                    'first is annotation %s of image %s, bbox %s', file.path, len(unusable), total,
                    first.get('id', int(unusable[0])), first['image_id'], first['bbox'])


def _rows(path: Path, data: Any, key: str) -> list[dict[str, Any]]:
    """The list `key` of the file."""
    if not isinstance(data, Mapping):
        raise DatasetError(f'{path}: this is no COCO json: its top level is a {type(data).__name__}, not a dict of '
                           'images, annotations and categories')
    if key == 'annotations' and key not in data and 'images' in data and 'categories' in data:
        return []    # the files of COCO's test sets have none
    if not isinstance(data.get(key), list):
        raise DatasetError(f'{path}: this is no COCO json: it has no list {key!r}; it has '
                           f'{_listed(list(map(str, data)))}')
    bad = next((i for i, row in enumerate(data[key]) if not isinstance(row, dict)), None)
    if bad is not None:
        raise DatasetError(f'{path}: {key}[{bad}] is a {type(data[key][bad]).__name__}, not a dict')
    return data[key]


def _column(path: Path, kind: str, rows: list[dict[str, Any]], field: str) -> list[Any]:
    """A field of all rows."""
    try:
        return [row[field] for row in rows]
    except KeyError:
        i = next(i for i, row in enumerate(rows) if field not in row)
        raise DatasetError(f'{path}: {kind}[{i}] has no field {field!r}; it has {_listed(list(rows[i]))}') from None


def _unique(path: Path, kind: str, field: str, values: list[Any]) -> None:
    try:
        if len(set(values)) == len(values):
            return
    except TypeError:
        raise DatasetError(f'{path}: a field {field!r} of {kind} is neither a number nor a string') from None
    first: dict[Any, int] = {}
    for i, v in enumerate(values):
        if v in first:
            raise DatasetError(f'{path}: {kind}[{first[v]}] and {kind}[{i}] have the same {field} {v!r}; each needs '
                               'its own')
        first[v] = i


def _numbers(path: Path, kind: str, rows: list[Any], field: str, n: int, dtype: Any) -> np.ndarray:
    """(len(rows), n) finite numbers."""
    try:
        array = np.array(rows, np.float64).reshape(-1, n) if rows else np.zeros((0, n))
        if len(array) == len(rows) and np.isfinite(array).all():
            return array.astype(dtype)
    except (ValueError, TypeError):
        pass
    for i, row in enumerate(rows):
        if not (isinstance(row, (list, tuple)) and len(row) == n
                and all(isinstance(v, (int, float)) and np.isfinite(v) for v in row)):
            raise DatasetError(f'{path}: {kind}[{i}]: {field} should be {n} numbers; found {row!r}')
    raise DatasetError(f'{path}: {kind}: {field} should be {n} numbers in each')


def _look_up(path: Path, annotations: list[dict[str, Any]], field: str, table: dict[Any, int], kind: str) -> np.ndarray:
    """(M,) what `table` holds for the field of each annotation."""
    values = _column(path, 'annotations', annotations, field)
    try:
        return np.array([table[v] for v in values], np.int64)
    except (KeyError, TypeError):
        i = next(i for i, v in enumerate(values) if not isinstance(v, (int, str)) or v not in table)
        raise DatasetError(f'{path}: annotations[{i}] has {field} {values[i]!r}, which no entry of {kind!r} has as its '
                           'id') from None


def _listed(names: Sequence[str], most: int = 100) -> str:
    return ', '.join(map(repr, names[:most])) + (f', ... ({len(names)} in all)' if len(names) > most else '') or 'none'
