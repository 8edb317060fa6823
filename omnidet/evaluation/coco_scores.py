"""COCO's average precision and recall, computed by faster-coco-eval, and the names that MMDetection gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

AREAS = {'all': 0, 's': 1, 'm': 2, 'l': 3}    # small below 32 x 32 px, large from 96 x 96 px


@dataclasses.dataclass
class CocoScores:
    """Precision and recall of one evaluation; -1 wherever there is no ground truth to find.

    Attributes:
        precision: (T, R, K, A, M) at IoU thresholds, recalls, classes, areas and numbers of detections.
        recall: (T, K, A, M).
        iou_thrs: (T).
        max_dets: (M) how many detections of an image and class count, ascending.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    iou_thrs: NDArray[np.float64]
    max_dets: list[int]

    def ap(self, iou: float | None = None, area: str = 'all', label: int | None = None,
           max_dets: int | None = None) -> float:
        """Average precision over the chosen thresholds and classes (all by default), at `max_dets` (the largest)."""
        m = -1 if max_dets is None else self.max_dets.index(max_dets)
        values = self.precision[:, :, :, AREAS[area], m]
        values = values if iou is None else values[np.isclose(self.iou_thrs, iou)]
        return _mean(values if label is None else values[:, :, label])

    def ar(self, max_dets: int, area: str = 'all') -> float:
        """Average recall with the best `max_dets` detections of each image and class."""
        return _mean(self.recall[:, :, AREAS[area], self.max_dets.index(max_dets)])

    def items(self) -> dict[str, float]:
        """All figures, named as MMDetection does.

        As in pycocotools, mAP counts the best 100 detections (where 100 is one of the numbers, else the largest),
        the other precisions as many as the largest number.
        """
        most = self.max_dets[-1]
        hundred = 100 if 100 in self.max_dets else most
        return {'mAP': self.ap(max_dets=hundred), 'mAP_50': self.ap(0.5), 'mAP_75': self.ap(0.75),
                **{f'mAP_{a}': self.ap(area=a) for a in 'sml'},
                **{f'AR@{n}': self.ar(n) for n in self.max_dets},
                **{f'AR_{a}@{most}': self.ar(most, a) for a in 'sml'}}


def item_names(proposal_nums: Sequence[int]) -> list[str]:
    """The names of `CocoScores.items`, known before anything is computed."""
    nums = sorted(proposal_nums)
    return ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l',
            *(f'AR@{n}' for n in nums), *(f'AR_{a}@{nums[-1]}' for a in 'sml')]


def evaluate(images: list[tuple[int, int]], truths: list[dict[str, Any]], detections: list[dict[str, Any]],
             num_classes: int, iou_type: str, iou_thrs: NDArray[np.float64], max_dets: Sequence[int],
             by_class: bool = True) -> CocoScores:
    """Match detections to ground truth and accumulate.

    Args:
        images: (h, w) of each.
        truths: dicts of image (an index), label, bbox (x, y, w, h), area, iscrowd, and for segm a segmentation.
        detections: dicts of image, label, bbox, area, score, and for segm a segmentation (compressed run lengths).
        num_classes: K.
        iou_type: 'bbox' or 'segm'.
        iou_thrs: (T).
        max_dets: how many detections of an image and class count.
        by_class: False takes all classes as one, as for proposals.
    """
    frame = {'images': [{'id': i, 'height': h, 'width': w} for i, (h, w) in enumerate(images)],
             'categories': [{'id': k + 1, 'name': str(k)} for k in range(num_classes)]}
    sides = [COCO({**frame, 'annotations': [_annotation(i, x) for i, x in enumerate(side, 1)]})
             for side in (truths, detections)]
    run = COCOeval_faster(*sides, iouType=iou_type, print_function=_silent)
    run.params.iouThrs = iou_thrs
    run.params.maxDets = sorted(max_dets)
    run.params.useCats = int(by_class)
    run.evaluate()
    run.accumulate()
    return CocoScores(np.asarray(run.eval['precision']), np.asarray(run.eval['recall']), iou_thrs, sorted(max_dets))


def _annotation(i: int, x: dict[str, Any]) -> dict[str, Any]:
    """Numbered by us, from 1: an id of 0 means 'not matched' inside the evaluator, and an image's id must be an int."""
    out = {'id': i, 'image_id': x['image'], 'category_id': x['label'] + 1, 'iscrowd': x.get('iscrowd', 0)}
    return out | {k: x[k] for k in ('bbox', 'area', 'score', 'segmentation') if k in x}


def _mean(values: NDArray[np.float64]) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def _silent(*_: Any) -> None:
    pass
