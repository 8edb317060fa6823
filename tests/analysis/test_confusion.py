"""The confusion matrix: worked by hand, and held against loops over images."""

from __future__ import annotations

import csv
import itertools
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from omnidet.analysis.confusion import class_rows, confusion_matrix, draw_matrix, write_csv
from omnidet.analysis.results import Found
from omnidet.errors import ConfigError
from omnidet.structures import Result

CLASSES = ('cat', 'dog', 'bird')


def image(objects: list[tuple[Any, ...]], detections: list[tuple[Any, ...]]) -> Found:
    """Objects are (label, box) or (label, box, ignore), detections (label, box, score)."""
    instances = [dict(bbox=list(o[1]), bbox_label=o[0], ignore_flag=o[2] if len(o) > 2 else 0) for o in objects]
    return Found(dict(instances=instances, img_id=1, img_path='a.jpg'), Result(
        torch.tensor([d[1] for d in detections], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([d[2] for d in detections], dtype=torch.float32),
        torch.tensor([d[0] for d in detections], dtype=torch.long)))


A, B, C, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (80, 80, 90, 90)


def test_a_case_worked_by_hand():
    found = [image([(0, A), (0, B), (1, C)],
                   [(0, A, 0.9),     # a cat found
                    (1, B, 0.8),     # a cat taken for a dog
                    (2, FAR, 0.7),   # a bird where nothing is
                    (1, C, 0.2)]),   # a dog, but below the threshold: missed
             image([], [(2, A, 0.5)])]
    assert confusion_matrix(found, 3).tolist() == [[1, 1, 0, 0],
                                                   [0, 0, 0, 1],
                                                   [0, 0, 0, 0],
                                                   [0, 0, 2, 0]]


def test_an_object_counts_once_and_the_detection_of_its_own_class_has_it():
    found = [image([(0, A)], [(1, A, 0.99), (0, (0, 0, 10, 8), 0.4), (0, A, 0.35)])]
    # IoU 1 with the dog, 0.8 and 1 with the cats: a cat has it, though the dog scores more; the others find nothing
    assert confusion_matrix(found, 2).tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]
    # as MMDetection counts, all three are detections of the one object
    assert confusion_matrix(found, 2, every_overlap=True).tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_mmdetection_s_count_has_an_object_missed_where_only_another_class_is_found():
    found = [image([(0, A)], [(1, A, 0.9)])]
    assert confusion_matrix(found, 2, every_overlap=True).tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert confusion_matrix(found, 2).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_crowds_and_difficult_objects_are_neither_missed_nor_wrongly_found():
    crowd = (0, (0, 0, 100, 100), 1)
    found = [image([crowd, (1, B)], [(0, A, 0.9), (1, B, 0.9), (2, (90, 90, 120, 120), 0.9)])]
    assert confusion_matrix(found, 3).tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_suppression_first_takes_doubles_away():
    found = [image([(0, A)], [(0, A, 0.9), (0, (0, 0, 10, 9), 0.8)])]
    assert confusion_matrix(found, 1).tolist() == [[1, 0], [1, 0]]
    assert confusion_matrix(found, 1, nms_iou_thr=0.5).tolist() == [[1, 0], [0, 0]]


def random_images(seed: int) -> list[Found]:
    rng = np.random.default_rng(seed)

    def boxes(n: int) -> list[list[float]]:
        corner, size = rng.uniform(0, 20, (n, 2)), rng.uniform(4, 12, (n, 2))
        return np.concatenate([corner, corner + size], 1).astype(np.float32).tolist()
    return [image([(int(rng.integers(3)), b) for b in boxes(rng.integers(0, 8))],
                  [(int(rng.integers(3)), b, float(rng.random())) for b in boxes(rng.integers(0, 12))])
            for _ in range(15)]


def iou(a: Any, b: Any) -> float:
    w, h = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return w * h / (area - w * h)


@pytest.mark.parametrize('seed', range(4))
def test_one_to_one_counts_are_those_of_a_naive_loop(seed):
    found, thr = random_images(seed), 0.3
    expected = np.zeros((4, 4), int)
    for record, result in found:
        objects = [(x['bbox_label'], x['bbox']) for x in record['instances']]
        detections = [(k, b) for k, b, s in zip(result.labels.tolist(), result.boxes.tolist(), result.scores.tolist())
                      if s >= 0.3]
        while True:
            pairs = [((o[0] == d[0], iou(o[1], d[1])), o, d) for o, d in itertools.product(objects, detections)
                     if iou(o[1], d[1]) >= thr]
            if not pairs:
                break
            _, o, d = max(pairs, key=lambda p: p[0])
            expected[o[0], d[0]] += 1
            objects.remove(o)
            detections.remove(d)
        for label, _ in objects:
            expected[label, 3] += 1
        for label, _ in detections:
            expected[3, label] += 1
    matrix = confusion_matrix(found, 3, iou_thr=thr)
    assert matrix.tolist() == expected.tolist()
    assert matrix[:3, :3].sum() > 5
    assert matrix[:3].sum() == sum(len(f.record['instances']) for f in found)
    assert matrix[:, :3].sum() == sum(int((f.result.scores >= 0.3).sum()) for f in found)


@pytest.mark.parametrize('seed', range(4))
def test_mmdetection_s_counts_are_those_of_a_naive_loop(seed):
    found, thr = random_images(seed), 0.3
    expected = np.zeros((4, 4), int)
    for record, result in found:
        hits = [0] * len(record['instances'])
        for label, box, score in zip(result.labels.tolist(), result.boxes.tolist(), result.scores.tolist()):
            if score < 0.3:
                continue
            alone = True
            for g, x in enumerate(record['instances']):
                if iou(x['bbox'], box) >= thr:
                    alone = False
                    hits[g] += x['bbox_label'] == label
                    expected[x['bbox_label'], label] += 1
            expected[3, label] += alone
        for g, x in enumerate(record['instances']):
            expected[x['bbox_label'], 3] += not hits[g]
    assert confusion_matrix(found, 3, iou_thr=thr, every_overlap=True).tolist() == expected.tolist()


def test_rows_of_the_table_say_what_is_found_what_is_right_and_what_it_is_taken_for():
    matrix = np.array([[6, 3, 0, 1], [0, 0, 0, 0], [0, 0, 2, 2], [2, 1, 0, 0]])
    assert class_rows(matrix, CLASSES) == [('cat', 10, 8, 0.6, 0.75, 'dog (3)'), ('dog', 0, 4, -1.0, 0.0, '-'),
                                           ('bird', 4, 2, 0.5, 1.0, '-')]


def test_full_cells_are_brighter_in_the_picture_and_the_csv_holds_the_counts(tmp_path):
    matrix = np.array([[9, 0, 0, 1], [0, 0, 0, 0], [0, 5, 5, 0], [0, 0, 1, 0]])
    draw_matrix(tmp_path / 'some.png', matrix, CLASSES, 'gray')
    draw_matrix(tmp_path / 'none.png', np.zeros((4, 4), np.int64), CLASSES, 'gray')
    some, none = (np.asarray(cv2.imread(str(tmp_path / name))) for name in ('some.png', 'none.png'))
    assert some.shape == none.shape and some.mean() > none.mean() + 5
    write_csv(tmp_path / 'm.csv', matrix, CLASSES)
    with (tmp_path / 'm.csv').open(newline='') as f:
        rows = list(csv.reader(f))
    assert rows[0][1:] == [*CLASSES, 'background']
    assert [[int(v) for v in row[1:]] for row in rows[1:]] == matrix.tolist()
    with pytest.raises(ConfigError, match="no colour map 'plasm'; did you mean 'plasma'"):
        draw_matrix(tmp_path / 'm.png', matrix, CLASSES, 'plasm')
