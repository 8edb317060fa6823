"""Pascal VOC's metric: cases worked by hand, and a loop that follows the published rules word by word."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation import VOCMetric, build_metrics
from omnidet.evaluation.voc import average_precision
from omnidet.structures import ImageMeta, Result


class Objects:
    """A data set: for each image rows of (x1, y1, x2, y2, label[, difficult])."""

    def __init__(self, *images, classes=('cat', 'dog')):
        self.images, self.classes = images, classes
        self.image_ids = [f'{i:06d}' for i in range(len(images))]

    def __len__(self):
        return len(self.images)

    def load(self, i):
        return dict(instances=[dict(bbox=list(row[:4]), bbox_label=row[4], ignore_flag=(*row, 0)[5])
                               for row in self.images[i]])


def result(*rows):
    """rows: (x1, y1, x2, y2, score, label)."""
    t = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Result(t[:, :4], t[:, 4], t[:, 5].long())


def measure(dataset, results, **kwargs):
    metric = VOCMetric(dataset=dataset, **kwargs)
    for name, r in zip(dataset.image_ids, results):
        metric.update([r], [ImageMeta((200, 200), (200, 200), img_id=name)])
    return metric.compute(), metric


CATS = Objects([(0, 0, 9, 9, 0), (20, 0, 29, 9, 0), (40, 0, 49, 9, 0, 1)], [(0, 0, 9, 9, 0)])
FOUND = [result((0, 0, 9, 9, .9, 0),      # the first cat
                (0, 0, 9, 8, .8, 0),      # the first cat again: wrong
                (40, 0, 49, 9, .95, 0),   # the difficult cat: does not count
                (20, 0, 29, 4, .7, 0)),   # half of the second cat: an IoU of 50 / 100, just enough
         result((50, 50, 59, 59, .85, 0))]    # nothing


def test_case_worked_by_hand():
    # best first: right (.9), wrong (.85), wrong (.8), right (.7); three objects to find.
    # recall is 1/3, 1/3, 1/3, 2/3 and precision 1, 1/2, 1/3, 1/2
    figures, metric = measure(CATS, FOUND, eval_mode='area')
    assert figures['pascal_voc/AP50'] == figures['pascal_voc/mAP'] == pytest.approx(1 / 3 * 1 + 1 / 3 * 1 / 2)
    figures, _ = measure(CATS, FOUND, eval_mode='11points')
    # precision 1 at recalls 0, .1, .2, .3; 1/2 at .4, .5, .6; 0 at .7 and beyond
    assert figures['pascal_voc/AP50'] == pytest.approx((4 * 1 + 3 * 1 / 2) / 11)
    assert 'cat' in metric.report() and ' 3 ' in metric.report()


def test_several_thresholds_are_averaged_and_named():
    figures, _ = measure(CATS, FOUND, iou_thrs=[0.5, 0.55], eval_mode='area')
    # at 0.55 the half cat is found no more: only the first detection is right
    assert figures['pascal_voc/AP55'] == pytest.approx(1 / 3)
    assert figures['pascal_voc/mAP'] == pytest.approx((figures['pascal_voc/AP50'] + 1 / 3) / 2)


def test_last_pixel_belongs_to_a_box():
    # 10 x 10 pixels against 10 x 5: 50 / 100. Without the last pixel it would be 9 x 4 of 9 x 9, 0.44.
    figures, _ = measure(Objects([(0, 0, 9, 9, 0)]), [result((0, 0, 9, 4, .9, 0))])
    assert figures['pascal_voc/AP50'] == 1


def test_classes_without_objects_are_left_out_of_the_mean():
    dogs = result((0, 0, 9, 9, .9, 1))
    assert measure(Objects([(0, 0, 9, 9, 0)]), [dogs])[0]['pascal_voc/mAP'] == 0
    assert measure(Objects([(0, 0, 9, 9, 1), (9, 9, 20, 20, 0, 1)]), [dogs])[0]['pascal_voc/mAP'] == 1
    assert measure(Objects([]), [dogs])[0]['pascal_voc/mAP'] == 0


def test_nothing_found_is_zero():
    assert measure(CATS, [result(), result()])[0] == {'pascal_voc/mAP': 0, 'pascal_voc/AP50': 0}


def by_the_rules(dataset, results, label, thr, mode):
    """VOC's development kit in words: sort all detections, look at each in turn, mark what is found."""
    found = [set() for _ in results]
    rows = sorted(((float(s), i, b) for i, r in enumerate(results) for b, s, k in
                   zip(r.boxes.tolist(), r.scores, r.labels.tolist()) if k == label), key=lambda r: -r[0])
    right, wrong, recall, precision = 0, 0, [], []
    total = sum(row[4] == label and not (*row, 0)[5] for image in dataset.images for row in image)
    for _, i, (x1, y1, x2, y2) in rows:
        best, at = -1.0, None
        for g, (u1, v1, u2, v2, k, *difficult) in enumerate(dataset.images[i]):
            w, h = min(x2, u2) - max(x1, u1) + 1, min(y2, v2) - max(y1, v1) + 1
            if k == label and w > 0 and h > 0:
                union = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1) - w * h
                if w * h / union > best:
                    best, at = w * h / union, (g, bool(difficult and difficult[0]))
        if best >= thr:
            if at[1]:
                continue
            if at[0] in found[i]:
                wrong += 1
            else:
                found[i].add(at[0])
                right += 1
        else:
            wrong += 1
        recall.append(right / total)
        precision.append(right / (right + wrong))
    if mode == '11points':
        return sum(max([p for r, p in zip(recall, precision) if r >= t / 10], default=0) for t in range(11)) / 11
    area, last = 0.0, 0.0
    for n, r in enumerate(recall):
        area += (r - last) * max(precision[n:])
        last = r
    return area


@pytest.mark.parametrize('mode', ['11points', 'area'])
@pytest.mark.parametrize('seed', range(4))
def test_agrees_with_the_published_rules(mode, seed):
    rng = np.random.default_rng(seed)
    boxes = lambda n: np.sort(rng.integers(0, 30, (n, 2, 2)), axis=1).reshape(n, 4)    # noqa: E731
    images, results = [], []
    for _ in range(6):
        truth = boxes(8)
        images.append([(*b, k, d) for b, k, d in zip(truth.tolist(), rng.integers(0, 2, 8).tolist(),
                                                     (rng.random(8) < 0.2).tolist())])
        near = np.concatenate([truth + rng.integers(-2, 3, truth.shape), boxes(10)])
        results.append(result(*[(*b, s, k) for b, s, k in zip(near.tolist(), rng.random(18).tolist(),
                                                              rng.integers(0, 2, 18).tolist())]))
    dataset = Objects(*images)
    figures, _ = measure(dataset, results, iou_thrs=[0.3, 0.6], eval_mode=mode)
    for thr in (0.3, 0.6):
        want = np.mean([by_the_rules(dataset, results, k, thr, mode) for k in (0, 1)])
        assert figures[f'pascal_voc/AP{thr * 100:.0f}'] == pytest.approx(want)
        assert 0 < want < 1


def test_precision_is_the_best_at_a_recall_or_beyond():
    recall, precision = np.array([0.25, 0.25, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3, 0.8])
    assert average_precision(recall, precision, 'area') == pytest.approx(0.25 * 1 + 0.75 * 0.8)
    assert average_precision(np.array([0.3]), np.array([1.0]), '11points') == pytest.approx(4 / 11)    # 0, .1, .2, .3


def test_recall_counts_every_class_and_not_the_difficult():
    dataset = Objects([(0, 0, 9, 9, 0), (20, 0, 29, 9, 1), (40, 0, 49, 9, 0, 1)])
    found = [result((0, 0, 9, 9, .2, 1), (20, 0, 29, 9, .1, 1), (60, 0, 69, 9, .9, 0))]
    figures, metric = measure(dataset, found, metric='recall', proposal_nums=(1, 2, 3))
    assert figures == {'pascal_voc/recall@1@0.5': 0, 'pascal_voc/recall@2@0.5': 0.5, 'pascal_voc/recall@3@0.5': 1}
    assert 'recall@3' in metric.report()


def test_records_of_other_processes_are_counted_once():
    _, metric = measure(CATS, FOUND)
    want = metric.compute()
    others = pickle.loads(pickle.dumps(metric.records[::-1] + metric.records[:1]))
    assert metric.compute(others) == want
    metric.reset()
    assert metric.records == []


def test_engine_hands_over_the_data_set():
    metric, = build_metrics(dict(type='VOCMetric', metric='mAP', eval_mode='area'), CATS)
    metric.update([FOUND[0]], [ImageMeta((9, 9), (9, 9), img_id='000000')])
    assert set(metric.compute()) == {'pascal_voc/mAP', 'pascal_voc/AP50'}
    with pytest.raises(DatasetError, match="no image with the id '7'"):
        metric.update([FOUND[0]], [ImageMeta((9, 9), (9, 9), img_id=7)])


@pytest.mark.parametrize('wrong, message', [
    (dict(eval_mode='11point'), "eval_mode: '11point' is none of .*did you mean '11points'"),
    (dict(metric='map'), "metric: 'map' is none of"), (dict(scale_ranges=[(0, 32)]), 'scale_ranges'),
    (dict(dataset=None), 'needs dataset')])
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        VOCMetric(**{'dataset': CATS, **wrong})
