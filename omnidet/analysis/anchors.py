"""Sizes of anchors that fit the boxes of a data set (YOLO9000, arXiv:1612.08242, section 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnidet.errors import DatasetError

Sizes = NDArray[np.float64]


class Fit(NamedTuple):
    """Anchors and how they fit.

    Attributes:
        anchors: (A, 2) widths and heights in pixels, smallest first.
        mean_iou: over boxes, of the best anchor with the same centre.
        recall: the share of boxes whose best anchor overlaps them by at least 0.5.
        boxes: how many there are.
    """

    anchors: Sizes
    mean_iou: float
    recall: float
    boxes: int


def box_sizes(dataset: Any, input_shape: tuple[int, int]) -> Sizes:
    """(M, 2) widths and heights of a data set's boxes, in pixels of images that are fitted into (h, w)."""
    out = [np.zeros((0, 2))]
    for i in range(len(dataset)):
        record = dataset.load(i)
        boxes = np.array([x['bbox'] for x in record['instances'] if not x.get('ignore_flag')], float).reshape(-1, 4)
        if len(boxes):
            if not record.get('width') or not record.get('height'):
                raise DatasetError(f'{record["img_path"]}: the annotation file does not tell the size of the image')
            factor = min(input_shape[0] / record['height'], input_shape[1] / record['width'])
            out.append((boxes[:, 2:] - boxes[:, :2]) * factor)
    sizes = np.concatenate(out)
    return sizes[(sizes > 0).all(1)]


def fit_anchors(sizes: Sizes, count: int = 9, iterations: int = 1000, seed: int = 0) -> Fit:
    """The k-means of box sizes under a distance of 1 - IoU; of several beginnings the best.

    Args:
        sizes: (M, 2).
        count: A, how many anchors.
        iterations: the most rounds; it ends earlier where nothing changes.
        seed: of the beginnings.

    Raises:
        DatasetError: there are fewer boxes than anchors.
    """
    if len(sizes) < count:
        raise DatasetError(f'{count} anchors cannot be fitted to {len(sizes)} boxes; --num-anchors takes fewer')
    rng = np.random.default_rng(seed)
    best = max((_k_means(sizes, count, iterations, rng) for _ in range(5)),
               key=lambda anchors: size_iou(sizes, anchors).max(1).mean())
    anchors = best[np.argsort(best.prod(1), kind='stable')]
    fit = size_iou(sizes, anchors).max(1)
    return Fit(anchors, float(fit.mean()), float((fit >= 0.5).mean()), len(sizes))


def size_iou(a: Sizes, b: Sizes) -> Sizes:
    """(M, 2) and (A, 2) widths and heights -> (M, A) IoU of boxes with one centre."""
    inter = np.minimum(a[:, None], b[None]).prod(-1)
    return inter / (a.prod(1)[:, None] + b.prod(1)[None] - inter)


def _k_means(sizes: Sizes, count: int, iterations: int, rng: np.random.Generator) -> Sizes:
    """Each box belongs to the anchor that overlaps it most; each anchor becomes the median of its boxes."""
    anchors, nearest = _spread(sizes, count, rng), np.full(len(sizes), -1)
    for _ in range(iterations):
        before, nearest = nearest, size_iou(sizes, anchors).argmax(1)
        if (nearest == before).all():
            break
        for k in range(count):
            if (nearest == k).any():
                anchors[k] = np.median(sizes[nearest == k], 0)
    return anchors


def _spread(sizes: Sizes, count: int, rng: np.random.Generator) -> Sizes:
    """Beginnings among the boxes, each drawn the more likely the less the others fit it (k-means++)."""
    chosen = [int(rng.integers(len(sizes)))]
    while len(chosen) < count:
        distance = 1 - size_iou(sizes, sizes[chosen]).max(1)
        weight = distance ** 2 if distance.any() else np.ones(len(sizes))
        chosen.append(int(rng.choice(len(sizes), p=weight / weight.sum())))
    return sizes[chosen].astype(float)
