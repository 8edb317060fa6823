"""Results that were written down, by us or by MMDetection, as `Result`s in the order of a data set."""

from __future__ import annotations

import io
import json
import pickle
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from omnidet.checkpoints import unpickle
from omnidet.data import build_dataset
from omnidet.data.masks import BitmapMasks
from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation import build_metrics
from omnidet.evaluation.dump import SUFFIXES
from omnidet.structures import ImageMeta, Result


class Found(NamedTuple):
    """One image of a data set, and what was found in it.

    Attributes:
        record: what the data set knows: img_path, img_id, width, height, instances.
        result: in pixels of the image's file.
    """

    record: dict[str, Any]
    result: Result

    @property
    def meta(self) -> ImageMeta:
        shape = (int(self.record.get('height') or 0), int(self.record.get('width') or 0))
        return ImageMeta(shape, shape, img_id=self.record['img_id'], img_path=self.record['img_path'])


def measured_split(cfg: Mapping[str, Any]) -> str:
    """Which part of a config `omnidet test` measures: 'test', or 'val' where there is no test set.

    Raises:
        ConfigError: the config has neither.
    """
    for split in ('test', 'val'):
        if cfg.get(f'{split}_dataloader'):
            return split
    raise ConfigError('the config has neither test_dataloader nor val_dataloader')


def read_found(cfg: Mapping[str, Any], path: str | Path) -> tuple[Any, list[Found]]:
    """The data set that a config is measured on, and the results in a file for each of its images.

    Args:
        cfg: a whole config.
        path: see `read_results`.
    """
    dataset = build_dataset(cfg[f'{measured_split(cfg)}_dataloader']['dataset'], test_mode=True)
    results = read_results(path, dataset)
    return dataset, [Found(dataset.load(i), result) for i, result in enumerate(results)]


def evaluate_results(cfg: Mapping[str, Any], path: str | Path) -> tuple[dict[str, float], str]:
    """What a config's evaluators make of results in a file, as figures and as tables of text.

    Args:
        cfg: a whole config.
        path: see `read_results`.

    Raises:
        ConfigError: the config has no evaluator.
    """
    split = measured_split(cfg)
    if not cfg.get(f'{split}_evaluator'):
        raise ConfigError(f'the config has no {split}_evaluator, so it does not say what to compute')
    dataset, found = read_found(cfg, path)
    figures: dict[str, float] = {}
    reports = []
    for metric in build_metrics(cfg[f'{split}_evaluator'], dataset):
        for image in found:
            metric.update([image.result], [image.meta])
        figures.update(metric.compute())
        reports.append(metric.report())
    return figures, '\n\n'.join(reports)


def read_results(path: str | Path, dataset: Any) -> list[Result]:
    """The results in a file, one for each image of a data set and in its order. No code of the file runs.

    Known are pickles of `omnidet test --out x.pkl` and of MMDetection 3.x (a list of dicts), pickles of MMDetection 2.x
    (for each image, boxes by class, perhaps with masks), and COCO's results json (`x.bbox.json`, `x.segm.json`).

    Args:
        path: the file.
        dataset: what the results are of.

    Raises:
        DatasetError: the file is missing, damaged, would run code, or is of another data set.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f'{path} does not exist; `omnidet test CONFIG CHECKPOINT --out results.pkl` writes such a '
                           'file')
    try:
        if path.suffix == '.json':
            return _from_coco(json.loads(path.read_text(encoding='utf-8')), dataset, path)
        return _from_items(load_pickle(path), dataset, path)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as e:
        raise DatasetError(f'{path}: these are no results of a detector ({type(e).__name__}: {str(e)[:120]}); a pickle '
                           f"({', '.join(SUFFIXES)}) of `omnidet test --out` or of MMDetection, or COCO's results json "
                           'is wanted') from e


def load_pickle(path: Path) -> Any:
    """A pickle of plain data, arrays and tensors.

    Raises:
        DatasetError: the file is damaged, or names a class or function that could do harm.
    """
    try:
        with path.open('rb') as f:
            return _Reader(f).load()
    except unpickle.RefusedError as e:
        raise DatasetError(f'{path} is not read: it names {e.name}, which is no part of results and could run '
                           'code') from e
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError,
            UnicodeDecodeError, OverflowError, MemoryError, RuntimeError) as e:
        raise DatasetError(f'{path} is no pickle, or a damaged one ({type(e).__name__}: {str(e)[:120]})') from e


class _Reader(unpickle.Unpickler):
    """The checkpoints' reader, and tensors in the form that plain `pickle` gives them."""

    def find_class(self, module: str, name: str) -> Any:
        return _storage if (module, name) == ('torch.storage', '_load_from_bytes') else super().find_class(module, name)


def _storage(raw: bytes) -> Any:
    return torch.load(io.BytesIO(raw), map_location='cpu', weights_only=True)


def _from_items(items: Any, dataset: Any, path: Path) -> list[Result]:
    if not isinstance(items, (list, tuple)):
        raise DatasetError(f'{path} holds a {type(items).__name__}; results are a list with an item for each image')
    if items and all(isinstance(item, dict) and 'img_id' in item for item in items):
        by_id = {str(item['img_id']): item for item in items}
        missing = [k for k in map(str, dataset.image_ids) if k not in by_id]
        if missing:
            raise DatasetError(f'{path} has results of {len(by_id)} images, but not of {len(missing)} of the '
                               f'{len(dataset)} in {dataset.ann_path}, such as {missing[0]!r}; is it of another data '
                               'set?')
        return [_from_dict(by_id[k]) for k in map(str, dataset.image_ids)]
    if len(items) != len(dataset):
        raise DatasetError(f'{path} has results of {len(items)} images, {dataset.ann_path} has {len(dataset)} images; '
                           'results without the ids of images must be of every image, in order')
    return [_from_classes(item) for item in items]


def _from_dict(item: Mapping[str, Any]) -> Result:
    """An image of MMDetection 3.x's layout."""
    found = item.get('pred_instances') or {'bboxes': np.zeros((0, 4)), 'scores': [], 'labels': []}
    result = _result(found['bboxes'], found['scores'], found['labels'], found.get('masks'))
    panoptic, sem_seg = (item.get(k) for k in ('pred_panoptic_seg', 'pred_sem_seg'))
    return result.replace(panoptic=None if panoptic is None else _tensor(panoptic['sem_seg']).long()[0],
                          sem_seg=None if sem_seg is None else _tensor(sem_seg['sem_seg']).long()[0])


def _from_classes(item: Any) -> Result:
    """An image of MMDetection 2.x's layout: (n, 5) boxes and scores of each class, or these and the masks of each."""
    if isinstance(item, Mapping):
        item = item['ins_results']
    boxes, masks = item if isinstance(item, tuple) else (item, None)
    if isinstance(boxes, np.ndarray) and boxes.dtype != object and boxes.ndim == 2:
        boxes = [boxes]    # proposals, without classes
    rows = np.concatenate([np.zeros((0, 5), np.float32), *(np.asarray(b, np.float32)[:, :5] for b in boxes)])
    labels = np.concatenate([np.zeros(0, np.int64), *(np.full(len(b), k) for k, b in enumerate(boxes))])
    flat = None if masks is None else [mask for of_class in masks for mask in of_class]
    return _result(rows[:, :4], rows[:, 4], labels, flat)


def _from_coco(rows: Any, dataset: Any, path: Path) -> list[Result]:
    """COCO's results: rows of image_id, category_id, bbox (xywh), score, and perhaps a segmentation."""
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise DatasetError(f"{path} is not COCO's results json, which is a list of dicts of image_id, category_id, "
                           'bbox and score')
    label_of = {category: label for label, category in enumerate(dataset.cat_ids)}
    of_image: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        of_image[str(row['image_id'])].append(row)
    known = set(map(str, dataset.image_ids))
    foreign = next((k for k in of_image if k not in known), None)
    if foreign is not None:
        raise DatasetError(f'{path} has results of image {foreign!r}, which is not in {dataset.ann_path}')
    out = []
    for image_id in map(str, dataset.image_ids):
        of_this = of_image.get(image_id, [])
        boxes = np.array([row['bbox'] for row in of_this], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]    # xywh -> xyxy
        masks = [row['segmentation'] for row in of_this if 'segmentation' in row]
        out.append(_result(boxes, [row['score'] for row in of_this],
                           [label_of[row['category_id']] for row in of_this],
                           masks if masks and len(masks) == len(of_this) else None))
    return out


def _result(boxes: Any, scores: Any, labels: Any, masks: Any) -> Result:
    boxes, scores, labels = _tensor(boxes).float().reshape(-1, 4), _tensor(scores).float(), _tensor(labels).long()
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError(f'{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels')
    best = scores.argsort(descending=True, stable=True)
    return Result(boxes, scores, labels, _masks(masks, len(boxes)))[best]


def _masks(masks: Any, count: int) -> Any:
    if masks is None or (not count and isinstance(masks, (list, tuple))):
        return None
    if not isinstance(masks, (list, tuple)) or not isinstance(masks[0], Mapping):
        return torch.stack([_tensor(m) for m in masks]) if isinstance(masks, (list, tuple)) else _tensor(masks)
    return BitmapMasks.from_annotations(list(masks), *masks[0]['size']).to_instance_masks()


def _tensor(values: Any) -> Tensor:
    """A tensor, of an array, a list, or a tensor."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
