"""Pascal VOC's metric (doi:10.1007/s11263-009-0275-4), and the recall of proposals beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnidet.errors import ConfigError, DatasetError, did_you_mean
from omnidet.evaluation.recall import average_recall, box_iou
from omnidet.evaluation.report import class_table, figure_table
from omnidet.registry import METRICS
from omnidet.structures import ImageMeta, Result

Floats = NDArray[np.float64]


class Truth(NamedTuple):
    """The objects of one image."""

    boxes: Floats    # (G, 4) xyxy
    labels: NDArray[np.int64]    # (G)
    difficult: NDArray[np.bool_]    # (G)


class Matches(NamedTuple):
    """The detections of one class at one IoU threshold, best first."""

    right: NDArray[np.bool_]    # (D) the first that finds an object
    objects: int    # how many there are to find

    def curve(self) -> tuple[Floats, Floats]:
        """(D) recall and precision among the best 1, 2, ... D detections."""
        right = np.cumsum(self.right)
        return right / max(self.objects, 1), right / np.arange(1, len(right) + 1)


@METRICS.register
class VOCMetric:
    """Mean average precision as Pascal VOC defines it.

    The detections of a class, best first, each look at the object of their image and class that they overlap most. At
    an IoU of at least the threshold the first detection of an object is right and any later one is wrong; one of a
    `difficult` object counts neither way, and difficult objects are not missed. Widths and heights are x2 - x1 + 1, as
    in the challenge's own tools. Figures: `pascal_voc/mAP` (over the thresholds) and `pascal_voc/AP50`; for 'recall'
    `pascal_voc/recall@100@0.5`. A class without an object is left out of the mean; without any the mean is 0.

    Args:
        iou_thrs: the IoU threshold, or several.
        scale_ranges: not supported.
        metric: 'mAP', or 'recall' (of all detections of an image, whatever their class).
        proposal_nums: how many detections of an image count for recall.
        eval_mode: '11points', the mean of the best precision at recalls 0, 0.1, ..., 1 (the challenge of 2007), or
            'area', the area beneath it (from 2010 on).
        collect_device: accepted; the engine gathers the records over ranks by itself.
        prefix: what the figures' names begin with; 'pascal_voc' by default.
        dataset: what is evaluated; it holds the objects. The engine gives it.

    Raises:
        ConfigError: an argument out of its range.
    """

    def __init__(self, iou_thrs: float | Sequence[float] = 0.5, scale_ranges: Sequence[Any] | None = None,
                 metric: str | Sequence[str] = 'mAP', proposal_nums: Sequence[int] = (100, 300, 1000),
                 eval_mode: str = '11points', collect_device: str = 'cpu', prefix: str | None = None,
                 dataset: Any = None) -> None:
        names = [metric] if isinstance(metric, str) else list(metric)
        for field, value, known in (('metric', names[0] if len(names) == 1 else names, ('mAP', 'recall')),
                                    ('eval_mode', eval_mode, ('11points', 'area'))):
            if value not in known:
                raise ConfigError(f'VOCMetric.{field}: {value!r} is none of {", ".join(known)}'
                                  f'{did_you_mean(str(value), known)}')
        if scale_ranges is not None:
            raise ConfigError('VOCMetric.scale_ranges: ranges of scales are not supported')
        if dataset is None:
            raise ConfigError('VOCMetric needs dataset, the data set with the objects')
        self.iou_thrs = np.atleast_1d(np.asarray(iou_thrs, float)).tolist()
        self.metric = names[0]
        self.proposal_nums = list(proposal_nums)
        self.eval_mode = eval_mode
        self.prefix = 'pascal_voc' if prefix is None else prefix
        self.dataset = dataset
        self.records: list[Any] = []
        self._index: dict[str, int] | None = None
        self._report = ''

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        """Take in the results of some images."""
        for result, meta in zip(results, metas, strict=True):
            self._position(str(meta.img_id))
            self.records.append((str(meta.img_id), *(x.detach().cpu().numpy() for x in (
                result.boxes.double(), result.scores.double(), result.labels))))

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        """The figures over `records` (its own by default); an image that is there twice counts once."""
        by_image = {r[0]: r for r in (self.records if records is None else records)}
        chosen = [by_image[k] for k in sorted(by_image)]
        truths = [self._truth(r[0]) for r in chosen]
        figures = self._precision(chosen, truths) if self.metric == 'mAP' else self._recall(chosen, truths)
        return {f'{self.prefix}/{k}' if self.prefix else k: v for k, v in figures.items()}

    def report(self) -> str:
        """The figures of the last `compute`, and for 'mAP' a line for each class, as text."""
        return self._report

    def reset(self) -> None:
        """Forget all records."""
        self.records = []

    def _precision(self, records: list[Any], truths: list[Truth]) -> dict[str, float]:
        figures: dict[str, float] = {}
        rows: list[list[Any]] = [[name, 0, 0] for name in self.dataset.classes]
        for thr in self.iou_thrs:
            aps = []
            for label, row in enumerate(rows):
                found = match(records, truths, label, thr)
                row[1:3] = found.objects, len(found.right)
                if found.objects:
                    recall, precision = found.curve()
                    aps.append(average_precision(recall, precision, self.eval_mode))
                    row += [float(recall.max(initial=0.0)), aps[-1]]
                else:
                    row += [-1.0, -1.0]    # nothing to find
            figures[f'AP{int(thr * 100):02d}'] = float(np.mean(aps)) if aps else 0.0
        figures = {'mAP': float(np.mean(list(figures.values()))), **figures}
        columns = ['objects', 'found', *(f'{kind}{thr * 100:.0f}' for thr in self.iou_thrs for kind in ('R', 'AP'))]
        self._report = '\n\n'.join([f'{len(records)} of {len(self.dataset)} images',
                                    figure_table(f'VOC, {self.eval_mode}', figures),
                                    class_table('by class', rows, columns)])
        return figures

    def _recall(self, records: list[Any], truths: list[Truth]) -> dict[str, float]:
        end = np.array([0.0, 0.0, 1.0, 1.0])    # a box's last pixel belongs to it
        boxes = [t.boxes[~t.difficult] + end for t in truths]
        proposals = [r[1][np.argsort(-r[2], kind='stable')] + end for r in records]
        recalls = {thr: average_recall(boxes, proposals, self.proposal_nums, np.array([thr])) for thr in self.iou_thrs}
        figures = {f'recall@{n}@{thr}': recalls[thr][i] for i, n in enumerate(self.proposal_nums)
                   for thr in self.iou_thrs}
        self._report = figure_table(f'VOC recall, {len(records)} of {len(self.dataset)} images', figures)
        return figures

    def _position(self, img_id: str) -> int:
        if self._index is None:
            self._index = {str(k): i for i, k in enumerate(self.dataset.image_ids)}
        if img_id not in self._index:
            raise DatasetError(f'VOCMetric: the data set has no image with the id {img_id!r}')
        return self._index[img_id]

    def _truth(self, img_id: str) -> Truth:
        objects = self.dataset.load(self._position(img_id))['instances']
        return Truth(np.array([o['bbox'] for o in objects], float).reshape(-1, 4),
                     np.array([o['bbox_label'] for o in objects], np.int64),
                     np.array([o.get('ignore_flag', 0) for o in objects], bool))


def match(records: Sequence[Any], truths: Sequence[Truth], label: int, iou_thr: float) -> Matches:
    """Which detections of a class are right.

    Args:
        records: for each image (id, boxes (D, 4) xyxy, scores (D), labels (D)).
        truths: for each image its objects.
        label: the class.
        iou_thr: the least IoU with an object.

    Returns:
        the detections that count, those of difficult objects left out.
    """
    end = np.array([0.0, 0.0, 1.0, 1.0])    # a box's last pixel belongs to it
    scores: list[Floats] = [np.zeros(0)]
    partners = [np.zeros(0, np.int64)]    # the object that each detection finds; -1 none, -2 a difficult one
    objects = first = 0
    for (_, boxes, score, labels), truth in zip(records, truths, strict=True):
        mine, theirs = labels == label, truth.labels == label
        difficult = truth.difficult[theirs]
        iou = box_iou(boxes[mine] + end, truth.boxes[theirs] + end)
        best = iou.argmax(axis=1) if iou.size else np.zeros(int(mine.sum()), np.int64)
        found = iou[np.arange(len(best)), best] >= iou_thr if iou.size else np.zeros(len(best), bool)
        partner = np.where(found, first + best, -1)
        if iou.size:
            partner[found & difficult[best]] = -2
        scores.append(score[mine])
        partners.append(partner)
        objects += int((~difficult).sum())
        first += len(difficult)
    score, partner = np.concatenate(scores), np.concatenate(partners)
    partner = partner[np.argsort(-score, kind='stable')]
    partner = partner[partner != -2]
    right = np.zeros(len(partner), bool)
    right[np.unique(partner, return_index=True)[1]] = True    # the best of those that find the same object
    return Matches(right & (partner >= 0), objects)


def average_precision(recall: Floats, precision: Floats, mode: str = 'area') -> float:
    """The mean precision over recalls, where the precision at a recall is the best at it or beyond.

    Args:
        recall: (D) in 0..1, not falling.
        precision: (D) in 0..1.
        mode: 'area' beneath the curve, or '11points', the mean at recalls 0, 0.1, ..., 1.
    """
    if not len(recall):
        return 0.0
    if mode == '11points':
        return float(np.mean([precision[recall >= tenth / 10].max(initial=0.0) for tenth in range(11)]))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())
