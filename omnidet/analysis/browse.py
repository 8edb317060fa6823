"""What a data set gives to a training: pictures of its samples with their objects, and how many there are of what."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from omnidet.data import build_dataset
from omnidet.data.transforms.loading import read_image
from omnidet.engine.logging import progress_bar
from omnidet.errors import ConfigError
from omnidet.structures import IGNORE_LABEL, Result, Sample
from omnidet.visualization import contact_sheet, draw, write_jpg

SHEET = 24
"""How many pictures go on the sheet."""


@dataclass
class Census:
    """What is in a data set.

    Attributes:
        images: how many, and how many of them have no object.
        empty: those.
        rows: for each class its name, objects, and images that have it.
        sizes: the median (width, height) of images, or None where the file does not tell.
    """

    images: int
    empty: int
    rows: list[tuple[str, int, int]]
    sizes: tuple[int, int] | None


def census(dataset: Any) -> Census:
    """Count the objects of a data set by class, from its annotations alone."""
    K = len(dataset.classes)
    objects, images, empty = np.zeros(K, np.int64), np.zeros(K, np.int64), 0
    for i in range(len(dataset)):
        labels = np.asarray(dataset.get_cat_ids(i), np.int64)
        labels = labels[(labels >= 0) & (labels < K)]
        objects += np.bincount(labels, minlength=K)
        images[np.unique(labels)] += 1
        empty += not len(labels)
    sizes = np.asarray(dataset.sizes) if hasattr(dataset, 'sizes') else np.zeros((0, 2))
    typical = tuple(int(v) for v in np.median(sizes, 0)) if len(sizes) and sizes.all() else None
    return Census(len(dataset), empty, [(name, int(n), int(m)) for name, n, m in
                                        zip(dataset.classes, objects, images, strict=True)],
                  typical)    # type: ignore[arg-type]


def browse(cfg: Mapping[str, Any], split: str, folder: Path, number: int = 64, transformed: bool = True,
           seed: int = 0) -> tuple[Any, list[Path]]:
    """Draw samples of a data set with their boxes, masks and classes.

    Args:
        cfg: a whole config.
        split: 'train', 'val' or 'test'.
        folder: where the pictures go, under the images' own names, and `sheet.jpg` with the first of them.
        number: how many, spread over the data set; all where it is not positive.
        transformed: as the pipeline gives them; else as they are in their files.
        seed: of the augmentations.

    Returns:
        the data set, and the pictures' paths.

    Raises:
        ConfigError: the config has no such data set.
    """
    if not cfg.get(f'{split}_dataloader'):
        raise ConfigError(f'the config has no {split}_dataloader, so there is nothing to look at')
    dataset = build_dataset(cfg[f'{split}_dataloader']['dataset'])
    if hasattr(dataset, 'set_seed'):
        dataset.set_seed(seed)
    count = len(dataset) if number <= 0 else min(number, len(dataset))
    chosen = np.linspace(0, len(dataset), count, endpoint=False).astype(int).tolist()
    names = [_path_of(dataset, i) for i in chosen]
    common = os.path.commonpath([p.parent for p in names]) if names else ''
    paths: list[Path] = []
    small: list[np.ndarray] = []
    with progress_bar('draw', len(chosen), True) as advance:
        for i, name in zip(chosen, names, strict=True):
            picture = draw_sample(dataset[i], dataset.classes) if transformed else draw_record(dataset.load(i), dataset)
            path = folder / name.relative_to(common).with_suffix('.jpg')
            paths.append(write_jpg(path if path not in paths else path.with_stem(f'{path.stem}_{i}'), picture))
            if len(small) < SHEET:
                small.append(_shrunk(picture))
            advance()
    if small:
        write_jpg(folder / 'sheet.jpg', contact_sheet(small, columns=6 if len(small) > 12 else 4))
    return dataset, paths


def draw_sample(sample: Sample, classes: tuple[str, ...]) -> np.ndarray:
    """A sample as the model gets it but for the normalisation: (h, w, 3) uint8 in BGR."""
    image = sample.image.float().round().clamp(0, 255).byte().permute(1, 2, 0).numpy()    # (h, w, C)
    target = sample.target or {}
    boxes = torch.as_tensor(target.get('boxes', np.zeros((0, 4)))).float()
    labels = torch.as_tensor(target.get('labels', np.zeros(len(boxes)))).long()
    return _draw(image, boxes, labels, classes, target.get('masks'), target.get('sem_seg'))


def draw_record(record: Mapping[str, Any], dataset: Any) -> np.ndarray:
    """An image as it is in its file, with the boxes of its annotation."""
    instances = record['instances']
    boxes = torch.tensor([x['bbox'] for x in instances], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([x['bbox_label'] for x in instances], dtype=torch.long)
    return _draw(read_image(record['img_path']), boxes, labels, dataset.classes)


def _draw(image: np.ndarray, boxes: Tensor, labels: Tensor, classes: tuple[str, ...], masks: Any = None,
          sem_seg: Tensor | None = None) -> np.ndarray:
    if sem_seg is not None:
        sem_seg = sem_seg.masked_fill(sem_seg == IGNORE_LABEL, len(classes))    # which is painted as nothing
    result = Result(boxes, torch.ones(len(boxes)), labels, masks, sem_seg)
    return draw(np.ascontiguousarray(image), result, classes, score_thr=0, with_scores=False)


def _path_of(dataset: Any, index: int) -> Path:
    try:
        return Path(dataset.load(index)['img_path']).absolute()
    except (KeyError, TypeError, AttributeError):    # a data set of the user's that does not say
        return Path(f'{index:06d}').absolute()


def _shrunk(picture: np.ndarray, side: int = 480) -> np.ndarray:
    factor = side / max(picture.shape[:2])
    return picture if factor >= 1 else np.asarray(cv2.resize(picture, None, fx=factor, fy=factor,
                                                             interpolation=cv2.INTER_AREA))
