"""Panoptic quality as its definition says it, segment by segment, and ways to spoil a panoptic map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Map = np.ndarray[Any, np.dtype[np.int64]]
OFFSET = 1000    # a map of results holds class + 1000 * instance


class Truth(NamedTuple):
    """One image's ground truth: a map of ids, and for each segment (id, class, whether it is a crowd)."""

    ids: Map
    segments: list[tuple[int, int, bool]]


def quality(pairs: Sequence[tuple[Truth, Map]], num_classes: int) -> dict[int, tuple[float, float, float]]:
    """PQ, SQ and RQ in percent of each class that is there or was found (arXiv:1801.00868, equation 1).

    Args:
        pairs: ground truths, and maps of results in which a class of `num_classes` or more is nothing.
        num_classes: how many there are.
    """
    table = {k: [0.0, 0, 0, 0] for k in range(num_classes)}    # IoU of the found, found, wrong, missed
    for truth, pred in pairs:
        ids, found, right = truth.ids, set(), set()
        void = ~np.isin(ids, [i for i, _, _ in truth.segments])
        values = [v for v in np.unique(pred).tolist() if v % OFFSET < num_classes]
        masks = {v: pred == v for v in values}
        for i, label, crowd in truth.segments:
            mask = ids == i
            for v in values:
                if crowd or label != v % OFFSET:
                    continue
                both = int((mask & masks[v]).sum())
                union = int(mask.sum()) + int((masks[v] & ~void).sum()) - both
                if both / union > 0.5:
                    found.add(i)
                    right.add(v)
                    table[label][0] += both / union
                    table[label][1] += 1
            table[label][3] += not crowd and i not in found
        for v in values:
            crowds = np.isin(ids, [i for i, label, crowd in truth.segments if crowd and label == v % OFFSET])
            excused = (masks[v] & (void | crowds)).sum() > 0.5 * masks[v].sum()
            table[v % OFFSET][2] += v not in right and not excused
    out = {}
    for k, (iou, tp, fp, fn) in table.items():
        if tp + fp + fn:
            whole = tp + fp / 2 + fn / 2
            out[k] = (100 * iou / whole, 100 * iou / max(tp, 1), 100 * tp / whole)
    return out


def means(table: dict[int, tuple[float, float, float]], classes: Sequence[int]) -> list[float]:
    """PQ, SQ and RQ over those of `classes` that are in the table."""
    return np.mean([v for k, v in table.items() if k in classes], axis=0).tolist()


def as_result(truth: Truth, things: Sequence[int], nothing: int) -> Map:
    """The ground truth as a map of results; crowds are one segment."""
    out = np.full(truth.ids.shape, nothing, np.int64)
    for n, (i, label, _) in enumerate(truth.segments, start=1):
        out[truth.ids == i] = label + OFFSET * n * (label in things)
    return out


def drop(pred: Map, luck: np.random.Generator, things: Sequence[int], nothing: int) -> Map:
    """A third of the segments is not found."""
    return np.where(np.isin(pred, _some(pred, luck, nothing)), nothing, pred)


def merge(pred: Map, luck: np.random.Generator, things: Sequence[int], nothing: int) -> Map:
    """The first two things of every class are one."""
    out = pred.copy()
    for k in things:
        same = [v for v in np.unique(pred).tolist() if v % OFFSET == k]
        if len(same) > 1:
            out[out == same[1]] = same[0]
    return out


def shift(pred: Map, luck: np.random.Generator, things: Sequence[int], nothing: int, by: int = 8) -> Map:
    """All segments lie `by` pixels too far to the right."""
    return np.concatenate([np.full_like(pred[:, :by], nothing), pred[:, :-by]], axis=1)


def swap(pred: Map, luck: np.random.Generator, things: Sequence[int], nothing: int) -> Map:
    """A third of the segments has the class before its own."""
    out = pred.copy()
    for v in _some(pred, luck, nothing):
        before = (v % OFFSET - 1) % nothing
        number = v // OFFSET or 900 + luck.integers(50)
        out[pred == v] = before + OFFSET * number * (before in things)
    return out


def split(pred: Map, luck: np.random.Generator, things: Sequence[int], nothing: int) -> Map:
    """The upper part of every thing, at a height of its own, is a thing by itself."""
    out = pred.copy()
    for v in np.unique(pred).tolist():
        if v % OFFSET in things:
            y = np.nonzero((pred == v).any(axis=1))[0]
            upper = np.arange(len(pred)) < y[0] + luck.uniform(0.2, 0.8) * len(y)
            out[(pred == v) & upper[:, None]] = v + OFFSET * 500
    return out


PERTURBATIONS = (drop, merge, shift, swap, split)


def _some(pred: Map, luck: np.random.Generator, nothing: int) -> list[int]:
    values = [v for v in np.unique(pred).tolist() if v % OFFSET < nothing]
    return luck.permutation(values)[:-(-len(values) // 3)].tolist()
