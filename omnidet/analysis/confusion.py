"""Which class is taken for which: the confusion matrix of detections, and its picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from omnidet.analysis.results import Found
from omnidet.errors import ConfigError, did_you_mean
from omnidet.evaluation.recall import box_iou
from omnidet.files import written_whole
from omnidet.ops.nms import hard_nms

BACKGROUND = 'background'


class Boxes(NamedTuple):
    """The objects of an image, or what was found in it."""

    boxes: NDArray[np.float64]    # (N, 4) xyxy
    labels: NDArray[np.int64]    # (N)


def confusion_matrix(found: Iterable[Found], num_classes: int, score_thr: float = 0.3, iou_thr: float = 0.5,
                     nms_iou_thr: float | None = None, every_overlap: bool = False) -> NDArray[np.int64]:
    """Count what objects of each class are found as.

    Args:
        found: the images.
        num_classes: K.
        score_thr: the lowest score of a detection that counts.
        iou_thr: the least IoU of an object and a detection of it.
        nms_iou_thr: suppress detections within their classes first.
        every_overlap: count as MMDetection does, see `count_overlaps`; otherwise see `count_pairs`.

    Returns:
        (K + 1, K + 1): row, the class of an object; column, the class that it is found as. The last row are detections
        where nothing is, the last column are objects that are not found.
    """
    count = count_overlaps if every_overlap else count_pairs
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for image in found:
        instances = image.record['instances']
        boxes = np.array([x['bbox'] for x in instances], np.float64).reshape(-1, 4)
        labels = np.array([x['bbox_label'] for x in instances], np.int64)
        ignored = np.array([bool(x.get('ignore_flag')) for x in instances], bool)
        result = image.result[image.result.scores >= score_thr]
        if nms_iou_thr is not None:
            result = result[hard_nms(result.boxes, result.scores, result.labels, iou_threshold=nms_iou_thr).keep]
        detections = Boxes(result.boxes.to(torch.float64).numpy(), result.labels.numpy())
        detections = _without_ignored(detections, boxes[ignored], iou_thr, boxes[~ignored])
        count(matrix, Boxes(boxes[~ignored], labels[~ignored]), detections, iou_thr)
    return matrix


def count_pairs(matrix: NDArray[np.int64], objects: Boxes, detections: Boxes, iou_thr: float) -> None:
    """Add an image to `matrix`; objects and detections are matched one to one, so that each counts once.

    Pairs of one class come first, then those that overlap more. A row's sum is the number of objects of its class, a
    column's that of detections.
    """
    iou = box_iou(objects.boxes, detections.boxes)    # (G, D)
    g, d = np.nonzero(iou >= iou_thr)
    alike = objects.labels[g] == detections.labels[d]
    free_g, free_d = np.ones(len(objects.labels), bool), np.ones(len(detections.labels), bool)
    for i in np.lexsort((-iou[g, d], ~alike)):
        if free_g[g[i]] and free_d[d[i]]:
            free_g[g[i]] = free_d[d[i]] = False
            matrix[objects.labels[g[i]], detections.labels[d[i]]] += 1
    np.add.at(matrix[:, -1], objects.labels[free_g], 1)
    np.add.at(matrix[-1], detections.labels[free_d], 1)


def count_overlaps(matrix: NDArray[np.int64], objects: Boxes, detections: Boxes, iou_thr: float) -> None:
    """Add an image to `matrix` as MMDetection does: a detection counts with every object that it overlaps.

    An object is missed unless a detection of its own class overlaps it, so it may count as missed and as another class.
    """
    overlaps = box_iou(objects.boxes, detections.boxes) >= iou_thr    # (G, D)
    g, d = np.nonzero(overlaps)
    np.add.at(matrix, (objects.labels[g], detections.labels[d]), 1)
    alike = objects.labels[:, None] == detections.labels
    np.add.at(matrix[:, -1], objects.labels[~(overlaps & alike).any(1)], 1)
    np.add.at(matrix[-1], detections.labels[~overlaps.any(0)], 1)


def _without_ignored(detections: Boxes, regions: NDArray[np.float64], iou_thr: float,
                     objects: NDArray[np.float64]) -> Boxes:
    """Drop detections that lie on crowds or difficult objects, and on nothing else."""
    low = np.maximum(detections.boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(detections.boxes[:, None, 2:], regions[None, :, 2:])
    area = (detections.boxes[:, 2:] - detections.boxes[:, :2]).prod(-1)
    inside = (high - low).clip(0).prod(-1) >= iou_thr * np.maximum(area, 1e-9)[:, None]    # (D, R)
    on_objects = (box_iou(detections.boxes, objects) >= iou_thr).any(1)
    keep = on_objects | ~inside.any(1)
    return Boxes(detections.boxes[keep], detections.labels[keep])


def class_rows(matrix: NDArray[np.int64], classes: Sequence[str]) -> list[tuple[Any, ...]]:
    """For each class its name, objects, detections, the shares of objects found and of detections right, and the
    class that it is most often taken for.
    """
    names, rows = [*classes, BACKGROUND], []
    for k, name in enumerate(classes):
        objects, detections, right = int(matrix[k].sum()), int(matrix[:, k].sum()), int(matrix[k, k])
        others = matrix[k].copy()
        others[[k, -1]] = 0
        taken = f'{names[int(others.argmax())]} ({others.max()})' if others.any() else '-'
        rows.append((name, objects, detections, right / objects if objects else -1.0,
                     right / detections if detections else -1.0, taken))
    return rows


def write_csv(path: Path, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Write the counts, with the classes' names at the head of rows and columns."""
    names = [*classes, BACKGROUND]
    with written_whole(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as f:
        csv.writer(f).writerows([['object / found as', *names],
                                 *([name, *map(int, row)] for name, row in zip(names, matrix, strict=True))])


def draw_matrix(path: Path, matrix: NDArray[np.int64], classes: Sequence[str], theme: str = 'plasma',
                title: str = '') -> None:
    """Draw the matrix, each row in percent of its sum.

    Args:
        path: of the picture; its suffix says which kind.
        matrix: (K + 1, K + 1) counts.
        classes: (K) names.
        theme: one of matplotlib's colour maps.
        title: above it.

    Raises:
        ConfigError: there is no such colour map.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if theme not in matplotlib.colormaps:
        raise ConfigError(f'--color-theme: matplotlib has no colour map {theme!r}'
                          f'{did_you_mean(theme, matplotlib.colormaps)}; plasma, viridis and Blues are some')
    names, n = [*classes, BACKGROUND], len(classes) + 1
    percent = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = float(np.clip(0.3 * n, 3.2, 30))    # inches
    text = float(np.clip(0.36 * 72 * side / n, 4, 10))    # points: three digits fit a cell
    figure = Figure(figsize=(side + 2.6, side + 1.6), layout='constrained', dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(percent, cmap=theme, vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label='percent of the row', fraction=0.05, aspect=20 + n, pad=0.02)
    for i, j in zip(*np.nonzero(matrix), strict=True):
        shade = np.array(image.cmap(percent[i, j] / 100)[:3]) @ [0.2126, 0.7152, 0.0722]
        axes.text(j, i, f'{percent[i, j]:.0f}', ha='center', va='center', fontsize=text,
                  color='black' if shade > 0.45 else 'white')
    axes.set_xticks(range(n), names, rotation=90 if n > 4 else 0, fontsize=text + 1)
    axes.set_yticks(range(n), [f'{name} ({int(s)})' for name, s in zip(names, matrix.sum(1), strict=True)],
                    fontsize=text + 1)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which='minor', color='white', linewidth=0.4, alpha=0.5)
    axes.tick_params(which='minor', length=0)
    axes.set_xlabel('found as')
    axes.set_ylabel('object (how many)')
    axes.set_title(title, fontsize=11)
    with written_whole(path) as temporary:
        figure.savefig(temporary)
