"""Cityscapes' average precision of instance masks (arXiv:1604.01685, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation.report import class_table, figure_table
from omnidet.files import written_whole
from omnidet.masks import InstanceMasks
from omnidet.registry import METRICS
from omnidet.structures import ImageMeta, Result

CLASS_IDS = {'person': 24, 'rider': 25, 'car': 26, 'truck': 27, 'bus': 28, 'train': 31, 'motorcycle': 32, 'bicycle': 33}
"""The value that Cityscapes' own files have for each class of objects."""

VOID_IDS = (-1, 0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
"""The values of pixels that are of no class that counts."""

LEAST_PIXELS = 100
"""Smaller objects are not to be found, nor wrong to find."""

IOU_THRS = np.arange(0.5, 1.0, 0.05)

Ints = NDArray[np.int64]


class Record(NamedTuple):
    """One image: T objects and groups of the ground truth, D detections; all counts are of pixels."""

    img_id: str
    truth_ids: Ints    # (T) class id * 1000 + number; a class id alone is a group that nobody told apart
    truth_pixels: Ints    # (T)
    class_ids: Ints    # (D)
    scores: NDArray[np.float64]    # (D)
    pixels: Ints    # (D)
    void: Ints    # (D) how much of each lies where no class counts
    overlaps: Ints    # (D, T) how much of each lies on each of the truth


@METRICS.register
class CityScapesMetric:
    """Cityscapes' AP of instance masks: `cityscapes/mAP` over IoUs 0.5 to 0.95, and `cityscapes/AP@50`.

    The ground truth are the files `*_gtFine_instanceIds.png`. An object of at least 100 pixels is found by the
    detections of its class whose IoU exceeds the threshold; the best is right, the others are wrong. A detection that
    finds nothing is wrong unless a share of it above the threshold lies on groups, small objects of its class, or where
    no class counts. The average precision of a class is the area beneath straight lines through the points of recall
    and precision, beginning at a precision of 1. It needs neither cityscapesscripts nor disparities (so there is no AP
    by distance).

    Args:
        outfile_prefix: with `format_only`, the folder `<outfile_prefix>.results` takes the files for Cityscapes'
            server; nothing is written otherwise.
        seg_prefix: the folder with a folder of ground truth for each city (`gtFine/val`).
        format_only: write the results and measure nothing.
        collect_device: accepted; the engine gathers the records over ranks by itself.
        prefix: what the figures' names begin with; 'cityscapes' by default.
        dump_matches: accepted; matches are not written.
        file_client_args, backend_args: accepted for local files.
        classes: the names of the labels, in order; the data set's, which the engine gives.

    Raises:
        ConfigError: an argument is missing, or a class is none of Cityscapes'.
    """

    def __init__(self, outfile_prefix: str | Path | None = None, seg_prefix: str | Path | None = None,
                 format_only: bool = False, collect_device: str = 'cpu', prefix: str | None = None,
                 dump_matches: bool = False, file_client_args: Mapping[str, Any] | None = None,
                 backend_args: Mapping[str, Any] | None = None, classes: Sequence[str] = tuple(CLASS_IDS)) -> None:
        if format_only and outfile_prefix is None:
            raise ConfigError('CityScapesMetric with format_only needs outfile_prefix, where the files go')
        if not format_only and seg_prefix is None:
            raise ConfigError('CityScapesMetric needs seg_prefix, the folder of *_gtFine_instanceIds.png')
        foreign = [c for c in classes if c not in CLASS_IDS]
        if foreign:
            raise ConfigError(f'CityScapesMetric: {", ".join(map(repr, foreign))} is no class of Cityscapes; those are '
                              f'{", ".join(CLASS_IDS)}')
        self.out = Path(f'{outfile_prefix}.results')
        self.seg_prefix = Path(seg_prefix or '')
        self.format_only = format_only
        self.prefix = 'cityscapes' if prefix is None else prefix
        self.classes = tuple(classes)
        self.class_ids = np.array([CLASS_IDS[c] for c in classes], np.int64)
        self.records: list[Any] = []
        self._report = ''

    def update(self, results: list[Result], metas: list[ImageMeta]) -> None:
        """Take in the results of some images; masks are counted against the ground truth at once."""
        for result, meta in zip(results, metas, strict=True):
            if result.instance_masks is None:
                raise ConfigError('CityScapesMetric measures masks, and this model gives none')
            masks, scores = result.instance_masks.cpu(), result.scores.double().cpu().numpy()
            class_ids = self.class_ids[result.labels.cpu().numpy()]
            if self.format_only:
                self._write(Path(str(meta.img_path)).stem, masks, scores, class_ids)
                self.records.append((str(meta.img_id),))
            else:
                truth = self._truth(Path(str(meta.img_path)))
                self.records.append(count(str(meta.img_id), truth, masks, scores, class_ids, self.class_ids))

    def compute(self, records: list[Any] | None = None) -> dict[str, float]:
        """The figures over `records` (its own by default); an image that is there twice counts once."""
        by_image = {r[0]: r for r in (self.records if records is None else records)}
        if self.format_only:
            self._report = f'results of {len(by_image)} images are written to {self.out}'
            return {}
        chosen = [Record(*by_image[k]) for k in sorted(by_image)]
        aps = np.array([[average_precision(chosen, c, t) for t in IOU_THRS] for c in self.class_ids.tolist()])
        there = ~np.isnan(aps).any(axis=1)
        figures = {'mAP': float(aps[there].mean()) if there.any() else -1.0,
                   'AP@50': float(aps[there, 0].mean()) if there.any() else -1.0}
        objects = [sum(int((_single(r, c) & (r.truth_pixels >= LEAST_PIXELS)).sum()) for r in chosen)
                   for c in self.class_ids.tolist()]
        rows = [(name, n, *((float(ap.mean()), float(ap[0])) if n else (-1.0, -1.0)))
                for name, n, ap in zip(self.classes, objects, aps, strict=True)]
        self._report = '\n\n'.join([f'{len(chosen)} images', figure_table('Cityscapes', figures),
                                    class_table('by class', rows, ('objects', 'AP', 'AP@50'))])
        return {f'{self.prefix}/{k}' if self.prefix else k: v for k, v in figures.items()}

    def report(self) -> str:
        """The figures of the last `compute`, and a line for each class, as text."""
        return self._report

    def reset(self) -> None:
        """Forget all records."""
        self.records = []

    def _truth(self, image: Path) -> Ints:
        """(H, W) the ids at each pixel of an image `.../city/city_1_2_leftImg8bit.png`."""
        name = image.name.replace('_leftImg8bit', '')
        path = self.seg_prefix / image.parent.name / f'{Path(name).stem}_gtFine_instanceIds.png'
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if ids is None or ids.ndim != 2:
            raise DatasetError(f'{path}: there is no such file, or it is no image of one channel; it should hold the '
                               f'ground truth of {image}')
        return ids.astype(np.int64)

    def _write(self, name: str, masks: InstanceMasks, scores: NDArray[np.float64], class_ids: Ints) -> None:
        """Cityscapes' form of results: a list of (mask's file, class id, score), and the masks as pictures."""
        lines = []
        for n, (crop, (x1, y1, x2, y2)) in enumerate(zip(masks.crops(), masks.windows.tolist(), strict=True)):
            picture = np.zeros(masks.size, np.uint8)
            picture[y1:y2, x1:x2] = crop.numpy()
            file = f'{name}_{n}_{class_ids[n]}.png'
            with written_whole(self.out / file) as path:
                path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
            lines.append(f'{file} {class_ids[n]} {scores[n]}\n')
        with written_whole(self.out / f'{name}_pred.txt') as path:
            path.write_text(''.join(lines))


def count(img_id: str, truth: Ints, masks: InstanceMasks, scores: NDArray[np.float64], class_ids: Ints,
          counting: Ints) -> Record:
    """How an image's detections lie on its ground truth.

    Args:
        img_id: the image's id.
        truth: (H, W) ids.
        masks, scores, class_ids: of the detections (D).
        counting: the ids of the classes that are measured.
    """
    if masks.size != truth.shape:
        raise DatasetError(f'image {img_id}: masks of {masks.size} (h, w) for a ground truth of {truth.shape}')
    ids, pixels = np.unique(truth, return_counts=True)
    kept = np.isin(ids, counting) | np.isin(ids // 1000, counting)
    ids, pixels = ids[kept], pixels[kept]
    D = len(scores)
    area, void, overlaps = np.zeros(D, np.int64), np.zeros(D, np.int64), np.zeros((D, len(ids)), np.int64)
    for n, (crop, (x1, y1, x2, y2)) in enumerate(zip(masks.crops(), masks.windows.tolist(), strict=True)):
        under, times = np.unique(truth[y1:y2, x1:x2][crop.numpy().astype(bool)], return_counts=True)
        area[n], void[n] = times.sum(), times[np.isin(under, VOID_IDS)].sum()
        known = np.isin(under, ids)
        overlaps[n, np.searchsorted(ids, under[known])] = times[known]
    return Record(img_id, ids, pixels, class_ids, scores, area, void, overlaps)


def average_precision(records: Sequence[Record], class_id: int, iou_thr: float) -> float:
    """The average precision of a class at one IoU threshold; nan where there is no object to find."""
    scores, right, missed, there = [np.zeros(0)], [np.zeros(0, bool)], 0, False
    for r in records:
        mine = (r.class_ids == class_id) & (r.pixels > 0)
        theirs = _single(r, class_id) | (r.truth_ids == class_id)
        overlap, size, score = r.overlaps[mine][:, theirs], r.pixels[mine], r.scores[mine]
        truth_size = r.truth_pixels[theirs]
        to_find = (r.truth_ids[theirs] >= 1000) & (truth_size >= LEAST_PIXELS)
        found = overlap / (size[:, None] + truth_size - overlap) > iou_thr    # (D, T)
        unclear = r.void[mine] + overlap @ (r.truth_ids[theirs] < 1000) + overlap @ (truth_size < LEAST_PIXELS)
        wrong = ~found.any(axis=1) & (unclear / size <= iou_thr)
        scores.append(score[wrong])
        right.append(np.zeros(int(wrong.sum()), bool))
        for t in np.flatnonzero(to_find):
            finders = np.sort(score[found[:, t]])[::-1]
            scores.append(finders)
            right.append(np.arange(len(finders)) == 0)
            missed += not len(finders)
        there |= bool(to_find.any())
    return area_below(np.concatenate(scores), np.concatenate(right), missed) if there else float('nan')


def area_below(scores: NDArray[np.float64], right: NDArray[np.bool_], missed: int) -> float:
    """The area beneath straight lines through the points (recall, precision) of every score, from (0, 1) on.

    Args:
        scores: (D).
        right: (D) bool.
        missed: how many objects no detection finds.
    """
    order = np.argsort(-scores, kind='stable')
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))    # of each group of equal scores
    hits = np.cumsum(right[order])[last]
    recall = np.concatenate([[0.0], hits / max(int(right.sum()) + missed, 1)])
    precision = np.concatenate([[1.0], hits / (last + 1)])
    return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())


def _single(record: Record, class_id: int) -> NDArray[np.bool_]:
    """(T) bool, the objects of a class that were told apart."""
    return record.truth_ids // 1000 == class_id
