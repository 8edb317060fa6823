"""COCO's metrics for boxes, instance masks and proposals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from faster_coco_eval.core import mask as mask_api
from numpy.typing import NDArray

from omnidet.errors import ConfigError, DatasetError, did_you_mean
from omnidet.evaluation.coco_scores import CocoScores, evaluate, item_names
from omnidet.evaluation.ground_truth import read_ground_truth, to_rle
from omnidet.evaluation.recall import average_recall
from omnidet.evaluation.report import class_table, figure_table
from omnidet.evaluation.rle import encode_masks, readable
from omnidet.files import written_whole
from omnidet.registry import METRICS
from omnidet.structures import ImageMeta, Result

METRIC_NAMES = ('bbox', 'segm', 'proposal', 'proposal_fast')


class Record(NamedTuple):
    """What the metric keeps of one image's result; a plain tuple of arrays, cheap to send to another process."""

    img_id: str
    boxes: NDArray[np.floating]    # (K, 4) xyxy
    scores: NDArray[np.floating]    # (K)
    labels: NDArray[np.int64]    # (K)
    masks: list[dict[str, Any]] | None    # (K) compressed run lengths


@METRICS.register
class CocoMetric:
    """COCO's twelve figures for boxes and masks, and the average recall of proposals.

    `compute` names its figures as MMDetection does: `coco/bbox_mAP`, `coco/bbox_mAP_50`, `coco/segm_mAP`,
    `coco/AR@100`; with `classwise` also `coco/person_precision`. They are not rounded. A figure for which there is
    nothing to find (no ground truth, or no object of that size) is -1, as in COCO's own tools. It evaluates the images
    that it was given results for; `report` says how many of the file's those are.

    Args:
        ann_file: COCO json with the ground truth; it is read at once, so that a mistake shows before any training.
        metric: 'bbox', 'segm', 'proposal' (recall, by COCO's rules), 'proposal_fast' (recall, without areas and
            crowds), or several.
        classwise: add every class's average precision to the figures and a table of them to the report.
        proposal_nums: how many detections of an image and class count; average recall is given for each number.
        iou_thrs: one IoU threshold or several; 0.5, 0.55, ..., 0.95 by default.
        metric_items: which figures `compute` returns: of mAP, mAP_50, mAP_75, mAP_s, mAP_m, mAP_l, AR@n for each of
            `proposal_nums`, AR_s@n, AR_m@n, AR_l@n for the largest. The six of precision by default, those of
            recall for proposals.
        format_only: write the results as COCO json and measure nothing; `outfile_prefix` says where.
        outfile_prefix: write `<outfile_prefix>.bbox.json` and `.segm.json`. Nothing is written by default.
        file_client_args: accepted for MMDetection's local files; other storage is refused.
        backend_args: as `file_client_args`.
        collect_device: accepted; the engine gathers the records over ranks by itself.
        prefix: what the figures' names begin with; 'coco' by default.
        sort_categories: order the file's categories by id, where `classes` does not give the order.
        use_mp_eval: accepted; the evaluator is fast without more processes.
        classes: the names of the labels, in order; all categories of the file by default. What is of other categories
            in the file is left out.

    Raises:
        ConfigError: an argument out of its range.
        DatasetError: an annotation file that is missing, is no COCO json, or lacks one of the classes.
    """

    def __init__(self, ann_file: str | Path | None = None, metric: str | Sequence[str] = 'bbox',
                 classwise: bool = False, proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thrs: float | Sequence[float] | None = None, metric_items: Sequence[str] | None = None,
                 format_only: bool = False,
                 outfile_prefix: str | Path | None = None, file_client_args: Mapping[str, Any] | None = None,
                 backend_args: Mapping[str, Any] | None = None, collect_device: str = 'cpu', prefix: str | None = None,
                 sort_categories: bool = False, use_mp_eval: bool = False,
                 classes: Sequence[str] | None = None) -> None:
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        _check_names('metric', self.metrics, METRIC_NAMES)
        self.metric_items = None if metric_items is None else list(metric_items)
        _check_names('metric_items', self.metric_items or [], item_names(proposal_nums))
        for args in (file_client_args, backend_args):
            if args and str(args.get('backend')) not in ('local', 'disk', 'LocalBackend'):
                raise ConfigError(f'CocoMetric reads local files only, not backend {args.get("backend")!r}')
        if format_only and outfile_prefix is None:
            raise ConfigError('CocoMetric with format_only needs outfile_prefix, the beginning of the files\' names')
        if ann_file is None:
            raise ConfigError('CocoMetric needs ann_file, the COCO json with the ground truth')
        self.classwise = classwise
        self.proposal_nums = list(proposal_nums)
        self.iou_thrs = np.linspace(0.5, 0.95, 10) if iou_thrs is None else np.atleast_1d(np.asarray(iou_thrs, float))
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.prefix = 'coco' if prefix is None else prefix
        self.truth = read_ground_truth(ann_file, classes, sort_categories)
        if 'segm' in self.metrics and not format_only and not self.truth.has_masks():
            raise DatasetError(f'{ann_file} has no segmentation in any annotation; metric=\'segm\' cannot be measured')
        self.records: list[Record] = []
        self._report = ''

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        """Take in the results of some images; masks are encoded at once, so that little memory is held."""
        for result, meta in zip(results, metas, strict=True):
            img_id = str(meta.img_id)
            if img_id not in self.truth.images:
                raise DatasetError(f'{self.truth.path} has no image with the id {meta.img_id!r} ({meta.img_path})')
            masks = result.instance_masks if 'segm' in self.metrics else None
            self.records.append(Record(img_id, _array(result.boxes), _array(result.scores),
                                       result.labels.cpu().numpy(), None if masks is None else encode_masks(masks)))

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        """The figures over `records` (its own by default); an image that is there twice counts once.

        Raises:
            ConfigError: a label beyond the classes, or metric 'segm' for results without masks.
        """
        by_image = {r[0]: Record(*r) for r in (self.records if records is None else records)}
        chosen = list(by_image.values())
        chosen.sort(key=lambda r: (len(r.img_id), r.img_id))    # by number as COCO's tools do: it decides between ties
        self._check(chosen)
        if self.outfile_prefix is not None:
            self._export(chosen)
        if self.format_only:
            self._report = f'results of {len(chosen)} images are written to {self.outfile_prefix}.*.json'
            return {}
        figures: dict[str, float] = {}
        sections = [f'{len(chosen)} of {len(self.truth.images)} images in {self.truth.path.name}']
        for metric in self.metrics:
            found, text = self._recall(chosen) if metric == 'proposal_fast' else self._score(metric, chosen)
            figures.update(found)
            sections.append(text)
        self._report = '\n\n'.join(sections)
        return {f'{self.prefix}/{k}' if self.prefix else k: v for k, v in figures.items()}

    def report(self) -> str:
        """The twelve figures of the last `compute`, and with `classwise` the table of classes, as text."""
        return self._report

    def reset(self) -> None:
        """Forget all records."""
        self.records = []

    def _score(self, metric: str, records: list[Record]) -> tuple[dict[str, float], str]:
        """The figures of 'bbox', 'segm' or 'proposal' under their names, and their part of the report."""
        iou_type = 'segm' if metric == 'segm' else 'bbox'
        images = [self._size(r) for r in records]
        truths = [x for i, r in enumerate(records) for x in self._truths(i, r, images[i], iou_type)]
        detections = [x for i, r in enumerate(records) for x in self._detections(i, r, iou_type)]
        scores = evaluate(images, truths, detections, len(self.truth.classes), iou_type, self.iou_thrs,
                          self.proposal_nums, by_class=metric != 'proposal')
        items = scores.items()
        default = [k for k in items if k.startswith('AR' if metric == 'proposal' else 'mAP')]
        stem = '' if metric == 'proposal' else f'{metric}_'
        figures = {stem + k: items[k] for k in self.metric_items or default}
        title = f'{metric}: {sum(not x["iscrowd"] for x in truths)} objects, {len(detections)} detections'
        text = figure_table(title, items)
        if self.classwise and metric != 'proposal':
            rows = self._per_class(scores, truths)
            figures |= {f'{row[0]}_precision': row[2] for row in rows}
            text += '\n\n' + class_table(f'{metric}, by class', rows)
        return figures, text

    def _per_class(self, scores: CocoScores, truths: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        """For each class its name, number of objects, AP, AP50, AP75, and AP of small, medium and large objects."""
        count = np.bincount([x['label'] for x in truths if not x['iscrowd']], minlength=len(self.truth.classes))
        return [(name, int(count[k]), scores.ap(label=k), scores.ap(0.5, label=k), scores.ap(0.75, label=k),
                 *(scores.ap(area=a, label=k) for a in 'sml')) for k, name in enumerate(self.truth.classes)]

    def _recall(self, records: list[Record]) -> tuple[dict[str, float], str]:
        truths, proposals = [], []
        for r in records:
            boxes = [x['bbox'] for x in self.truth.objects.get(r.img_id, []) if not x['iscrowd']]
            xywh = np.asarray(boxes, dtype=float).reshape(-1, 4)
            truths.append(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
            proposals.append(r.boxes[np.argsort(-r.scores, kind='stable')].astype(float))
        recalls = average_recall(truths, proposals, self.proposal_nums, self.iou_thrs)
        figures = {f'AR@{n}': recall for n, recall in zip(self.proposal_nums, recalls, strict=True)}
        return figures, figure_table('proposal_fast', figures)

    def _truths(self, i: int, record: Record, size: tuple[int, int], iou_type: str) -> Iterable[dict[str, Any]]:
        for x in self.truth.objects.get(record.img_id, []):
            if iou_type == 'bbox':
                yield {k: v for k, v in x.items() if k != 'segmentation'} | {'image': i}
            elif (rle := self._rle(x.get('segmentation'), size, record)) is not None:
                yield x | {'image': i, 'segmentation': rle}
            else:    # nothing is known of its shape: what is found there is neither right nor wrong
                left, top, w, h = x['bbox']
                corners = [left, top, left + w, top, left + w, top + h, left, top + h]
                yield x | {'image': i, 'segmentation': to_rle([corners], *size), 'iscrowd': 1}

    def _rle(self, segmentation: Any, size: tuple[int, int], record: Record) -> dict[str, Any] | None:
        try:
            return to_rle(segmentation, *size)
        except (KeyError, TypeError, ValueError) as e:
            raise DatasetError(f'{self.truth.path}: image {record.img_id} has a segmentation that is neither polygons '
                               f'nor run lengths: {e}') from e

    def _detections(self, i: int, record: Record, iou_type: str) -> Iterable[dict[str, Any]]:
        xywh = _xywh(record.boxes)
        for k, (box, score, label) in enumerate(zip(xywh.tolist(), record.scores.tolist(), record.labels.tolist(),
                                                    strict=True)):
            out = {'image': i, 'label': label, 'bbox': box, 'area': box[2] * box[3], 'score': score}
            if iou_type == 'segm':
                rle = record.masks[k]    # type: ignore[index]
                out |= {'segmentation': rle, 'area': float(mask_api.area(rle))}
            yield out

    def _size(self, record: Record) -> tuple[int, int]:
        """(h, w) of an image; only masks need them, so that a file without them will do for boxes."""
        image = self.truth.images[record.img_id]
        if 'height' in image and 'width' in image:
            return int(image['height']), int(image['width'])
        if record.masks:
            return tuple(record.masks[0]['size'])    # type: ignore[return-value]
        if 'segm' in self.metrics and self.truth.objects.get(record.img_id):
            raise DatasetError(f'{self.truth.path}: image {record.img_id} has no height and width, which masks need')
        return 1, 1

    def _check(self, records: list[Record]) -> None:
        K = len(self.truth.classes)
        for r in records:
            if len(r.labels) and r.labels.max() >= K and set(self.metrics) & {'bbox', 'segm'}:
                raise ConfigError(f'image {r.img_id}: the model found class {r.labels.max()}, but the data set has {K} '
                                  'classes; its num_classes and the data set\'s classes must agree')
            if 'segm' in self.metrics and r.masks is None and len(r.scores):
                raise ConfigError("metric='segm' needs masks, but the model gives boxes only; use metric='bbox'")

    def _export(self, records: list[Record]) -> None:
        """Write every kind of result as COCO's results json, whole or not at all."""
        for kind in dict.fromkeys('proposal' if m.startswith('proposal') else m for m in self.metrics):
            rows = [row for r in records for row in self._rows(r, kind)]
            with written_whole(f'{self.outfile_prefix}.{kind}.json') as path:
                path.write_text(json.dumps(rows), encoding='utf-8')

    def _rows(self, record: Record, kind: str) -> Iterable[dict[str, Any]]:
        xywh = np.round(_xywh(record.boxes), 3).tolist()
        scores = np.round(record.scores.astype(float), 6).tolist()
        for k, (box, score, label) in enumerate(zip(xywh, scores, record.labels.tolist(), strict=True)):
            if kind != 'proposal' and self.truth.cat_ids[label] is None:
                continue    # the file has no id to call this class by
            row = {'image_id': self.truth.images[record.img_id]['id'], 'bbox': box, 'score': score,
                   'category_id': 1 if kind == 'proposal' else self.truth.cat_ids[label]}
            if kind == 'segm':
                row['segmentation'] = readable(record.masks[k])    # type: ignore[index]
            yield row


def _array(values: torch.Tensor) -> NDArray[np.floating]:
    """At least single precision: NumPy knows no bfloat16."""
    return values.detach().cpu().to(torch.promote_types(values.dtype, torch.float32)).numpy()


def _xywh(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    xyxy = boxes.astype(np.float64).reshape(-1, 4)
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def _check_names(argument: str, found: Sequence[str], allowed: Sequence[str]) -> None:
    for name in found:
        if name not in allowed:
            raise ConfigError(f'CocoMetric.{argument}: there is no {name!r}{did_you_mean(name, allowed)}; '
                              f'it takes {", ".join(allowed)}')
