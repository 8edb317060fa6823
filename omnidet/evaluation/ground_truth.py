"""A COCO annotation file as an evaluator needs it: one evaluation's classes, every field filled in and checked."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faster_coco_eval.core import mask as mask_api

from omnidet.errors import DatasetError, did_you_mean


@dataclass
class GroundTruth:
    """What is true of each image.

    Attributes:
        path: the annotation file.
        classes: (K) names; a label is an index into them.
        cat_ids: (K) the file's category id of each class; None where a file lists only some of the classes.
        images: the file's entry of each image, by its id as text (some files write 7 here and "7" there).
        objects: the annotations of each image that are of these classes, by the image's id as text: dicts of label,
            bbox (x, y, w, h), area, iscrowd, and segmentation where the file gives one.
    """

    path: Path
    classes: tuple[str, ...]
    cat_ids: list[int | None]
    images: dict[str, dict[str, Any]]
    objects: dict[str, list[dict[str, Any]]]

    def has_masks(self) -> bool:
        """Whether any object has an outline (true, too, where there is no object at all)."""
        found = [bool(x.get('segmentation')) for per_image in self.objects.values() for x in per_image]
        return any(found) or not found


def read_ground_truth(path: str | Path, classes: Sequence[str] | None = None,
                      sort_categories: bool = False) -> GroundTruth:
    """Read a COCO annotation file.

    Args:
        path: the json file.
        classes: the names to evaluate, in the order of the labels; every category of the file by default. What is
            of another category is left out. The file may lack some of them, if all that it has is among them.
        sort_categories: order the file's categories by id (Objects365 v1 lists them in another order).

    Raises:
        DatasetError: no such file, no COCO json, or names that do not match.
    """
    path = Path(path)
    data, classes, cat_ids = read_categories(path, classes, sort_categories)
    label_of = {cat_id: label for label, cat_id in enumerate(cat_ids) if cat_id is not None}
    images = {str(image['id']): image for image in data['images']}
    objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for i, annotation in enumerate(data.get('annotations', [])):
        try:
            label = label_of.get(annotation['category_id'])
            if label is not None and str(annotation['image_id']) in images:
                objects[str(annotation['image_id'])].append(_object(annotation, label))
        except (KeyError, TypeError, ValueError) as e:
            raise DatasetError(f'{path}: annotations[{i}] (id {annotation.get("id")}) is not a COCO box: '
                               f'{type(e).__name__} {e}') from e
    return GroundTruth(path, classes, cat_ids, images, dict(objects))


def read_categories(path: Path, classes: Sequence[str] | None = None, sort_categories: bool = False
                    ) -> tuple[dict[str, Any], tuple[str, ...], list[int | None]]:
    """A COCO json, the classes, and the file's category id of each; the arguments are those of `read_ground_truth`."""
    data = _read_json(path)
    categories = data.get('categories', [])
    if sort_categories:
        categories = sorted(categories, key=lambda c: c['id'])
    names = [str(c['name']) for c in categories]
    classes = tuple(names if classes is None else classes)
    return data, classes, _category_ids(classes, names, [c['id'] for c in categories], path)


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any] | None:
    """COCO's three ways to write a mask (polygons, run lengths, compressed run lengths) as the last of them.

    Returns:
        dict of size and counts, or None where the segmentation is empty or no polygon of it has three corners.
    """
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation['counts'], list):
            return mask_api.frPyObjects(dict(segmentation), height, width)    # type: ignore[return-value]
        return dict(segmentation)
    if segmentation and not isinstance(segmentation[0], Sequence):
        segmentation = [segmentation]    # one polygon, without the list around it
    polygons = [polygon for polygon in segmentation or [] if len(polygon) >= 6]
    return mask_api.merge(mask_api.frPyObjects(polygons, height, width)) if polygons else None    # type: ignore


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f'the metric\'s annotation file {path} does not exist; '
                           'set ann_file of val_evaluator or test_evaluator')
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as e:
        raise DatasetError(f'{path} is not a json file: {e}') from e
    if not isinstance(data, dict) or not isinstance(data.get('images'), list):
        found = f'the keys {sorted(data)[:8]}' if isinstance(data, dict) else f'a {type(data).__name__}'
        raise DatasetError(f'{path} is not a COCO annotation file, which is an object with images, annotations and '
                           f'categories; found {found}')
    return data


def _category_ids(classes: Sequence[str], names: list[str], ids: list[int], path: Path) -> list[int | None]:
    """The id of each class; several categories of one name are given out in the file's order."""
    missing = [c for c in classes if c not in names]
    if missing and not (set(names) < set(classes) and names):
        raise DatasetError(f'{path} has no category {", ".join(map(repr, missing[:5]))}'
                           f'{did_you_mean(missing[0], names)}\n  classes evaluated: {_some(classes)}\n'
                           f'  categories of the file: {_some(names)}')
    left = defaultdict(list)
    for name, cat_id in zip(names, ids, strict=True):
        left[name].append(cat_id)
    if any(classes.count(name) > len(left[name]) for name in names):
        raise DatasetError(f'{path}: the classes evaluated name one category twice: {_some(classes)}')
    return [left[c].pop(0) if c in left else None for c in classes]


def _some(names: Sequence[str], most: int = 20) -> str:
    return ', '.join(names[:most]) + (f', ... ({len(names)} in all)' if len(names) > most else '') or 'none'


def _object(annotation: Mapping[str, Any], label: int) -> dict[str, Any]:
    x, y, w, h = map(float, annotation['bbox'])
    area = annotation.get('area')
    out = {'label': label, 'bbox': [x, y, w, h], 'area': w * h if area is None else float(area),
           'iscrowd': int(annotation.get('iscrowd') or 0)}
    if annotation.get('segmentation'):
        out['segmentation'] = annotation['segmentation']
    return out
