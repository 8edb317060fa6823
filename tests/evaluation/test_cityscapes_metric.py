"""Cityscapes' metric: cases worked by hand, and a loop over pixels that follows its definition."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation import CityScapesMetric
from omnidet.evaluation.cityscapes import area_below
from omnidet.structures import ImageMeta, Result

SIZE = (60, 100)
PERSON, CAR = 0, 2    # labels


def truth_of(*areas):
    """(y1, x1, y2, x2, id) painted in turn on road (7)."""
    ids = np.full(SIZE, 7, np.uint16)
    for y1, x1, y2, x2, value in areas:
        ids[y1:y2, x1:x2] = value
    return ids


def found(*rows):
    """(y1, x1, y2, x2, score, label)."""
    masks = torch.zeros(len(rows), *SIZE, dtype=torch.bool)
    for m, (y1, x1, y2, x2, *_) in zip(masks, rows):
        m[y1:y2, x1:x2] = True
    return Result(torch.zeros(len(rows), 4), torch.tensor([float(r[4]) for r in rows]),
                  torch.tensor([r[5] for r in rows], dtype=torch.long), masks)


@pytest.fixture
def measure(tmp_path):
    def measure(truths, results, **kwargs):
        metric = CityScapesMetric(seg_prefix=tmp_path / 'gtFine', **kwargs)
        for i, (truth, result) in enumerate(zip(truths, results)):
            (tmp_path / 'gtFine' / 'bonn').mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'gtFine' / 'bonn' / f'bonn_{i}_gtFine_instanceIds.png'), truth)
            metric.update([result], [ImageMeta(SIZE, SIZE, img_id=i, img_path=f'img/bonn/bonn_{i}_leftImg8bit.png')])
        return metric.compute(), metric
    return measure


def test_case_worked_by_hand(measure):
    truth = truth_of((0, 0, 20, 10, 24000), (0, 20, 20, 30, 24001), (30, 0, 50, 20, 26000))
    figures, metric = measure([truth], [found(
        (0, 0, 20, 10, .9, PERSON),      # the first person, exactly
        (0, 0, 20, 9, .8, PERSON),       # again, at an IoU of 0.9: wrong up to 0.85
        (0, 20, 13, 30, .7, PERSON),     # the second at 0.65
        (30, 0, 50, 20, .9, PERSON))])   # a car is no person
    # persons at 0.5: right and wrong (.9), wrong (.8), right (.7); two detections of .9 make one point, (1/2, 1/2)
    #   from (0, 1) to (1/2, 1/2) to (1/2, 1/3) to (1, 1/2): 1/2 * 3/4 + 1/2 * 5/12
    persons_50 = 1 / 2 * 3 / 4 + 1 / 2 * 5 / 12
    assert figures['cityscapes/AP@50'] == pytest.approx((persons_50 + 0) / 2)    # no car is found
    # beyond 0.65 the second person is missed and its detection wrong: recall stays at 1/2
    persons = [persons_50] * 3 + [1 / 2 * 3 / 4] * 7    # 0.65 itself does not exceed 0.65
    assert figures['cityscapes/mAP'] == pytest.approx(np.mean(persons) / 2)
    assert 'person' in metric.report() and ' 2 ' in metric.report()


def test_groups_void_and_small_objects_excuse_a_detection(measure):
    person = (0, 0, 20, 10, 24000)
    right = (0, 0, 20, 10, .5, PERSON)
    cases = {
        'group': ((30, 0, 50, 20, 24), True), 'void': ((30, 0, 50, 20, 4), True), 'road': ((30, 0, 50, 20, 7), False),
        'group of cars': ((30, 0, 50, 20, 26), False), 'half void': ((30, 0, 50, 10, 4), True),
        'caravan': ((30, 0, 50, 20, 29001), False)}
    for name, (area, excused) in cases.items():
        figures, _ = measure([truth_of(person, area)], [found(right, (30, 0, 50, 20, .9, PERSON))])
        # a wrong detection before the right one: from (0, 1) to (0, 0) to (1, 1/2)
        want = 1.0 if excused and name != 'half void' else 0.25
        assert figures['cityscapes/AP@50'] == pytest.approx(want), name
    tiny = (30, 0, 39, 10, 24001)    # 90 pixels
    figures, _ = measure([truth_of(person, tiny)], [found(right, (30, 0, 39, 10, .9, PERSON))])
    assert figures['cityscapes/mAP'] == 1    # not to be found, and not wrong to find


def test_classes_without_objects_do_not_count_and_nothing_found_is_zero(measure):
    truth = truth_of((0, 0, 20, 10, 24000))
    assert measure([truth], [found()])[0] == {'cityscapes/mAP': 0, 'cityscapes/AP@50': 0}
    assert measure([truth], [found((0, 0, 20, 10, .5, PERSON), (30, 0, 50, 9, .9, CAR))])[0]['cityscapes/mAP'] == 1
    assert measure([truth_of()], [found()])[0]['cityscapes/mAP'] == -1


def by_pixels(truths, results, class_id, label, thr):
    """The definition, with masks as sets of pixels."""
    scored, missed = [], 0
    for ids, result in zip(truths, results):
        mine = [(float(s), set(np.flatnonzero(m.numpy()))) for s, m, k in
                zip(result.scores, result.masks, result.labels.tolist()) if k == label and m.any()]
        regions = {v: set(np.flatnonzero(ids == v)) for v in np.unique(ids).tolist()
                   if v == class_id or v // 1000 == class_id}
        void = set(np.flatnonzero(np.isin(ids, [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30])))
        iou = lambda a, b: len(a & b) / len(a | b)    # noqa: E731
        for v, region in regions.items():
            if v >= 1000 and len(region) >= 100:
                scores = sorted((s for s, m in mine if iou(m, region) > thr), reverse=True)
                missed += not scores
                scored += [(s, n == 0) for n, s in enumerate(scores)]
        for s, m in mine:
            if not any(iou(m, region) > thr for region in regions.values()):
                unclear = len(m & void)
                for v, region in regions.items():
                    unclear += len(m & region) * ((v < 1000) + (len(region) < 100))
                if unclear / len(m) <= thr:
                    scored.append((s, False))
    total = sum(hit for _, hit in scored) + missed
    area, before = 0.0, (0.0, 1.0)
    for level in sorted({s for s, _ in scored}, reverse=True):
        taken = [hit for s, hit in scored if s >= level]
        point = (sum(taken) / total, sum(taken) / len(taken))
        area += (point[0] - before[0]) * (point[1] + before[1]) / 2
        before = point
    return area


@pytest.mark.parametrize('seed', range(3))
def test_agrees_with_the_definition(seed, measure):
    rng = np.random.default_rng(seed)

    def box():
        y, x, h, w = rng.integers(0, 40), rng.integers(0, 70), rng.integers(4, 20), rng.integers(4, 30)
        return int(y), int(x), int(y + h), int(x + w)
    truths, results = [], []
    for _ in range(3):
        areas = [(*box(), v) for v in (24, 4, 24000, 24001, 24002, 26000, 26001, 29)]
        rows = [(*(int(v) + int(rng.integers(0, 2)) for v in a[:4]), round(float(rng.random()), 1), k)
                for a in areas for k in (PERSON, CAR)]
        truths.append(truth_of(*areas))
        results.append(found(*rows))
    figures, _ = measure(truths, results)
    at = [[by_pixels(truths, results, c, k, t) for c, k in ((24, PERSON), (26, CAR))] for t in np.arange(0.5, 1, 0.05)]
    assert figures['cityscapes/mAP'] == pytest.approx(np.mean(at))
    assert figures['cityscapes/AP@50'] == pytest.approx(np.mean(at[0])) and 0 < np.mean(at[0]) < 1


def test_equal_scores_make_one_point():
    both = area_below(np.array([0.5, 0.5]), np.array([True, False]), 0)
    assert both == area_below(np.array([0.5, 0.5]), np.array([False, True]), 0) == pytest.approx((1 + 1 / 2) / 2)


def test_files_for_the_server(tmp_path):
    metric = CityScapesMetric(outfile_prefix=tmp_path / 'out', format_only=True)
    meta = ImageMeta(SIZE, SIZE, img_id=3, img_path='a/b/bonn_3_leftImg8bit.png')
    metric.update([found((0, 0, 20, 10, .5, CAR))], [meta])
    assert metric.compute() == {} and '1 images' in metric.report()
    line, = (tmp_path / 'out.results' / 'bonn_3_leftImg8bit_pred.txt').read_text().splitlines()
    name, class_id, score = line.split()
    assert (class_id, float(score)) == ('26', 0.5)
    picture = cv2.imread(str(tmp_path / 'out.results' / name), cv2.IMREAD_UNCHANGED)
    assert picture.shape == SIZE and picture[:20, :10].all() and (picture > 0).sum() == 200


def test_mistakes_are_named(tmp_path, measure):
    with pytest.raises(ConfigError, match='needs seg_prefix'):
        CityScapesMetric()
    with pytest.raises(ConfigError, match="'dog' is no class of Cityscapes"):
        CityScapesMetric(seg_prefix='x', classes=('car', 'dog'))
    with pytest.raises(ConfigError, match='gives none'):
        measure([truth_of()], [Result(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))])
    with pytest.raises(DatasetError, match=r'bonn_9_gtFine_instanceIds\.png: there is no such file'):
        meta = ImageMeta(SIZE, SIZE, img_path='bonn/bonn_9_leftImg8bit.png')
        CityScapesMetric(seg_prefix=tmp_path).update([found()], [meta])
