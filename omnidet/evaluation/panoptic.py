"""Panoptic quality (arXiv:1801.00868)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation.ground_truth import read_categories
from omnidet.evaluation.report import class_table, figure_table
from omnidet.files import written_whole
from omnidet.panoptic import INSTANCE_OFFSET, colors_to_ids, ids_to_colors, segments_of
from omnidet.registry import METRICS
from omnidet.structures import ImageMeta, Result

VOID = 0
"""The id of a ground truth's pixels that belong to no segment."""

Ints = NDArray[np.int64]


class Segments(NamedTuple):
    """The segments of one map: T of them.

    Attributes:
        ids: (T) the value of their pixels.
        labels: (T) classes; -1 for one that is not evaluated.
        crowd: (T) bool, a region of things that nobody told apart.
    """

    ids: Ints
    labels: Ints
    crowd: NDArray[np.bool_]


class Record(NamedTuple):
    """One image: what was found of C classes that are there or were found, and the segments to write to a json."""

    img_id: str
    labels: Ints    # (C)
    iou: NDArray[np.float64]    # (C) the sum over segments that were found
    found: Ints    # (C) right ones, wrong ones, and missed ones
    wrong: Ints    # (C)
    missed: Ints    # (C)
    written: list[dict[str, Any]]


@METRICS.register
class CocoPanopticMetric:
    """Panoptic quality: how well segments fit (SQ), how many are found (RQ), and their product (PQ), in percent.

    A segment is found by the one of its class whose IoU with it exceeds 0.5; there is at most one. Pixels of the ground
    truth that belong to no segment count for nothing. A segment that finds nothing is wrong, unless more than half of
    it lies there or on crowds of its class. A class's PQ is the sum of the IoUs over
    found + wrong / 2 + missed / 2; the figures are means over the classes that are there or were found:
    `coco_panoptic/PQ`, `SQ` and `RQ` of all, of things (`PQ_th`, ...) and of stuff (`PQ_st`, ...), 0 where there is
    none. It needs no panopticapi.

    Args:
        ann_file: panoptic COCO json with the ground truth; it is read at once.
        seg_prefix: the folder with its png files; by default the folder beside `ann_file` that has its name.
        classwise: add a table of the classes to the report.
        format_only: write the results as `<outfile_prefix>.panoptic.json` and png files in the folder
            `<outfile_prefix>.panoptic`, and measure nothing.
        outfile_prefix: where; with it the results are written and measured too.
        nproc: accepted; images are compared as they come, in the processes that evaluate.
        file_client_args, backend_args: accepted for local files.
        collect_device: accepted; the engine gathers the records over ranks by itself.
        prefix: what the figures' names begin with; 'coco_panoptic' by default.
        classes: the names of the labels, in order; all categories of the file by default.

    Raises:
        ConfigError: an argument is missing or out of its range.
        DatasetError: an annotation file that is missing, is no panoptic COCO json, or lacks one of the classes.
    """

    def __init__(self, ann_file: str | Path | None = None, seg_prefix: str | Path | None = None,
                 classwise: bool = False, format_only: bool = False, outfile_prefix: str | Path | None = None,
                 nproc: int = 32, file_client_args: Mapping[str, Any] | None = None,
                 backend_args: Mapping[str, Any] | None = None, collect_device: str = 'cpu', prefix: str | None = None,
                 classes: Sequence[str] | None = None) -> None:
        for args in (file_client_args, backend_args):
            if args and str(args.get('backend')) not in ('local', 'disk', 'LocalBackend'):
                raise ConfigError(f'CocoPanopticMetric reads local files only, not backend {args.get("backend")!r}')
        if format_only and outfile_prefix is None:
            raise ConfigError('CocoPanopticMetric with format_only needs outfile_prefix, the beginning of the names of '
                              'what it writes')
        if ann_file is None:
            raise ConfigError('CocoPanopticMetric needs ann_file, the panoptic COCO json with the ground truth')
        self.ann_file = Path(ann_file)
        self.seg_prefix = self.ann_file.with_suffix('') if seg_prefix is None else Path(seg_prefix)
        self.classwise, self.format_only, self.outfile_prefix = classwise, format_only, outfile_prefix
        self.prefix = 'coco_panoptic' if prefix is None else prefix
        data, self.classes, self.cat_ids = read_categories(self.ann_file, classes)
        things = {c['id'] for c in data['categories'] if c.get('isthing', 1)}
        self.is_thing = np.array([c in things for c in self.cat_ids], bool)
        self.truths = {} if format_only else self._truths(data)
        self.image_ids = {str(image['id']): image['id'] for image in data['images']}
        self.records: list[Any] = []
        self._report = ''

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        """Take in the results of some images; each is compared with its ground truth at once."""
        for result, meta in zip(results, metas, strict=True):
            if result.panoptic is None:
                raise ConfigError('CocoPanopticMetric measures panoptic maps, and this model gives none; a model that '
                                  'does has test_cfg.panoptic_on=True')
            pred = result.panoptic.cpu().numpy().astype(np.int64)
            img_id = str(meta.img_id)
            written = [] if self.outfile_prefix is None else self._write(pred, meta)
            empty = np.zeros(0, np.int64)
            record = Record(img_id, empty, np.zeros(0), empty, empty, empty, written)
            if not self.format_only:
                if img_id not in self.truths:
                    raise DatasetError(f'{self.ann_file} has no annotation of image {img_id}, which is evaluated')
                path, truth = self.truths[img_id]
                ids = _read(path)
                if ids.shape != pred.shape:
                    raise DatasetError(f'{path}: a map of {ids.shape} (h, w) for a result of {pred.shape}')
                record = compare(img_id, ids, truth, pred, len(self.classes))._replace(written=written)
            self.records.append(record)

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        """The figures over `records` (its own by default); an image that is there twice counts once."""
        by_image = {r[0]: Record(*r) for r in (self.records if records is None else records)}
        chosen = list(by_image.values())
        if self.outfile_prefix is not None:
            self._export(chosen)
        if self.format_only:
            self._report = f'results of {len(chosen)} images are written to {self.outfile_prefix}.panoptic.json'
            return {}
        table, counts = quality(chosen, len(self.classes))    # (K, 3), (K, 3)
        there = counts.sum(axis=1) > 0
        figures: dict[str, float] = {}
        for suffix, group in (('', there), ('_th', there & self.is_thing), ('_st', there & ~self.is_thing)):
            means = table[group].mean(axis=0) if group.any() else np.zeros(3)
            figures |= {name + suffix: float(value) for name, value in zip(('PQ', 'SQ', 'RQ'), means, strict=True)}
        parts = [f'{len(chosen)} images', figure_table('panoptic quality, in percent', figures, columns=3)]
        if self.classwise:
            none = (-1.0, -1.0, -1.0)
            rows = [(name, int(counts[k, 0] + counts[k, 2]), *(table[k].tolist() if there[k] else none))
                    for k, name in enumerate(self.classes)]
            parts.append(class_table('by class', rows, ('segments', 'PQ', 'SQ', 'RQ')))
        self._report = '\n\n'.join(parts)
        return {f'{self.prefix}/{k}' if self.prefix else k: v for k, v in figures.items()}

    def report(self) -> str:
        """The figures of the last `compute`, and with `classwise` a line for each class, as text."""
        return self._report

    def reset(self) -> None:
        """Forget all records."""
        self.records = []

    def _truths(self, data: Mapping[str, Any]) -> dict[str, tuple[Path, Segments]]:
        """The png file and the segments of each image, by its id as text."""
        label_of = {cat_id: n for n, cat_id in enumerate(self.cat_ids) if cat_id is not None}
        out = {}
        for n, annotation in enumerate(data.get('annotations', [])):
            try:
                rows = annotation['segments_info']
                out[str(annotation['image_id'])] = self.seg_prefix / str(annotation['file_name']), Segments(
                    np.array([r['id'] for r in rows], np.int64),
                    np.array([label_of.get(r['category_id'], -1) for r in rows], np.int64),
                    np.array([bool(r.get('iscrowd', 0)) for r in rows], bool))
            except (KeyError, TypeError, ValueError) as e:
                raise DatasetError(f'{self.ann_file}: annotations[{n}] is not COCO\'s panoptic form: '
                                   f'{type(e).__name__} {e}') from e
        return out

    def _write(self, pred: Ints, meta: ImageMeta) -> list[dict[str, Any]]:
        """Write a map's png; its segments as they stand in a json."""
        ids, segments = segments_of(pred, len(self.classes))
        name = Path(str(meta.img_path if meta.img_path is not None else meta.img_id)).stem
        with written_whole(Path(f'{self.outfile_prefix}.panoptic') / f'{name}.png') as path:
            path.write_bytes(cv2.imencode('.png', ids_to_colors(ids))[1].tobytes())
        rows = [{'id': s['id'], 'category_id': self.cat_ids[s['label']], 'area': s['area'],
                 'isthing': int(self.is_thing[s['label']])} for s in segments]
        return [{'file_name': f'{name}.png', 'segments_info': rows}]

    def _export(self, records: Iterable[Record]) -> None:
        rows = [{'image_id': self.image_ids.get(r.img_id, r.img_id), **row} for r in records for row in r.written]
        with written_whole(Path(f'{self.outfile_prefix}.panoptic.json')) as path:
            path.write_text(json.dumps({'annotations': rows}), encoding='utf-8')


def compare(img_id: str, ids: NDArray[np.integer], truth: Segments, pred: Ints, num_classes: int) -> Record:
    """How a panoptic map fits its ground truth (arXiv:1801.00868, section 4).

    Args:
        img_id: the image's id.
        ids: (H, W) the ground truth's ids; 0 where there is no segment.
        truth: its segments, T.
        pred: (H, W) class + 1000 * instance.
        num_classes: K; a class of K or more is nothing.

    Raises:
        DatasetError: an id of `truth` has no pixel.
    """
    order = np.argsort(truth.ids)
    known, labels, crowd = truth.ids[order], truth.labels[order], truth.crowd[order]
    true_values, true_place = np.unique(ids, return_inverse=True)
    values, place = np.unique(pred, return_inverse=True)
    S, D = len(true_values), len(values)
    overlap = np.bincount(true_place.ravel() * D + place.ravel(), minlength=S * D).reshape(S, D)
    lost = known[~np.isin(known, true_values)]
    if len(lost):
        raise DatasetError(f'image {img_id}: the json has a segment {lost[0]}, of which the png has no pixel')
    area = overlap.sum(axis=0)    # (D)
    is_void = ~np.isin(true_values, known) | (true_values == VOID)
    void = overlap[is_void].sum(axis=0)
    overlap = overlap[np.searchsorted(true_values, known)]    # (T, D)
    pred_labels = values % INSTANCE_OFFSET
    real = pred_labels < num_classes
    same = (labels[:, None] == pred_labels) & real & (labels[:, None] >= 0)    # (T, D)

    union = overlap.sum(axis=1, keepdims=True) + (area - void) - overlap    # pixels of no segment count for nothing
    iou = np.where(same & ~crowd[:, None], overlap / np.maximum(union, 1), 0.0)
    matched = iou > 0.5
    unclear = void + (overlap * (same & crowd[:, None])).sum(axis=0)
    wrong = real & ~matched.any(axis=0) & (unclear / np.maximum(area, 1) <= 0.5)
    missed = ~crowd & ~matched.any(axis=1) & (labels >= 0)

    K = num_classes
    table = np.stack([np.bincount(labels[matched.any(axis=1)], minlength=K),
                      np.bincount(pred_labels[wrong], minlength=K), np.bincount(labels[missed], minlength=K)])
    sums = np.bincount(labels[np.nonzero(matched)[0]], iou[matched], minlength=K)
    there = np.flatnonzero(table.any(axis=0))
    found, wrong_ones, missed_ones = table[:, there]
    return Record(img_id, there, sums[there].astype(np.float64), found, wrong_ones, missed_ones, [])


def quality(records: Sequence[Record], num_classes: int) -> tuple[NDArray[np.float64], Ints]:
    """PQ, SQ and RQ of each class in percent, (K, 3), and how many are found, wrong and missed, (K, 3)."""
    counts, iou = np.zeros((num_classes, 3), np.int64), np.zeros(num_classes)
    for r in records:
        counts[r.labels] += np.stack([r.found, r.wrong, r.missed], axis=1)
        iou[r.labels] += r.iou
    found, wrong, missed = counts.T
    whole = np.maximum(found + 0.5 * wrong + 0.5 * missed, 0.5)
    return 100 * np.stack([iou / whole, iou / np.maximum(found, 1), found / whole], axis=1), counts


def _read(path: Path) -> NDArray[np.int32]:
    """(H, W) the ids of a png.

    Raises:
        DatasetError: it is missing, or no picture in colours.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DatasetError(f'{path}: there is no such file, or it is no image; it should hold the panoptic ground '
                           'truth (seg_prefix of the metric)')
    return colors_to_ids(bgr.astype(np.uint8, copy=False))
