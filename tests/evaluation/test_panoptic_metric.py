"""Panoptic quality, worked by hand, and by loops over segments as its definition has them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from panoptic_loops import PERTURBATIONS, Truth, as_result, means, quality

from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation import CocoPanopticMetric
from omnidet.panoptic import colors_to_ids, ids_to_colors
from omnidet.structures import ImageMeta, Result

CATEGORIES = [{'id': 7, 'name': 'cat', 'isthing': 1}, {'id': 3, 'name': 'dog', 'isthing': 1},
              {'id': 200, 'name': 'sky', 'isthing': 0}]
CAT, DOG, SKY, NOTHING = 0, 1, 2, 3


def write(folder, maps):
    """maps: for each image its ids (H, W) and a list of (id, category_id, iscrowd)."""
    annotations = []
    (folder / 'truth').mkdir()
    for n, (ids, segments) in enumerate(maps):
        cv2.imwrite(str(folder / 'truth' / f'{n}.png'), ids_to_colors(ids))
        annotations.append({'image_id': n, 'file_name': f'{n}.png', 'segments_info': [
            {'id': i, 'category_id': c, 'iscrowd': crowd, 'bbox': [0, 0, 5, 5], 'area': 25}
            for i, c, crowd in segments]})
    path = folder / 'truth.json'
    path.write_text(json.dumps({'images': [{'id': n, 'file_name': f'{n}.jpg', 'width': 10, 'height': 10}
                                           for n in range(len(maps))],
                                'categories': CATEGORIES, 'annotations': annotations}))
    return path


def measure(path, predictions, **options):
    metric = CocoPanopticMetric(path, **options)
    for n, pred in enumerate(predictions):
        metric.update([result(pred)], [meta(n, pred)])
    return metric.compute(), metric


def truth(ids, segments):
    label_of = {7: CAT, 3: DOG, 200: SKY}
    return Truth(ids, [(i, label_of[c], bool(crowd)) for i, c, crowd in segments])


def agree(figures, pairs):
    table = quality(pairs, NOTHING)
    for suffix, classes in (('', (CAT, DOG, SKY)), ('_th', (CAT, DOG)), ('_st', (SKY,))):
        got = [figures[f'coco_panoptic/{k}{suffix}'] for k in ('PQ', 'SQ', 'RQ')]
        assert got == pytest.approx(means(table, classes) if set(classes) & set(table) else [0, 0, 0])


def result(pred):
    none = torch.zeros(0)
    return Result(none.view(0, 4), none, none.long(), panoptic=torch.as_tensor(pred))


def meta(n, pred):
    return ImageMeta(pred.shape, pred.shape, img_id=n, img_path=f'images/{n}.jpg')


def test_the_truth_itself_has_a_quality_of_100_and_absent_classes_do_not_count(tmp_path):
    ids = np.repeat([[5, 70000, 0, 900]], 4, axis=0)
    path = write(tmp_path, [(ids, [(5, 7, 0), (70000, 7, 0), (900, 200, 0)])])
    pred = np.repeat([[CAT + 1000, CAT + 2000, NOTHING, SKY]], 4, axis=0)
    figures, metric = measure(path, [pred], classwise=True)
    assert figures == {f'coco_panoptic/{k}{s}': 100.0 for s in ('', '_th', '_st') for k in ('PQ', 'SQ', 'RQ')}
    assert next(line for line in metric.report().splitlines() if 'dog' in line).split()[1:] == ['0', '-', '-', '-']


def test_one_found_one_wrong_and_one_missed_worked_by_hand(tmp_path):
    ids = np.zeros((1, 20), int)
    ids[0, :8], ids[0, 8:12], ids[0, 12:] = 1, 2, 3
    path = write(tmp_path, [(ids, [(1, 7, 0), (2, 7, 0), (3, 200, 0)])])
    pred = np.full((1, 20), SKY)
    pred[0, 1:9], pred[0, 9:11] = CAT + 1000, CAT + 2000    # IoU 7 / 9 with the first, and 2 / 4 with the second
    pred[0, 19] = DOG + 1000
    figures, _ = measure(path, [pred])
    # sky: the first pixel, 11 and 12..18 against 12..19: IoU 7 / 10. cat: one found, one wrong, one missed. dog: wrong.
    cat, dog, sky = 100 * (7 / 9) / 2, 0, 100 * 0.7
    assert figures['coco_panoptic/PQ_th'] == pytest.approx((cat + dog) / 2)
    assert figures['coco_panoptic/PQ_st'] == pytest.approx(sky) == figures['coco_panoptic/SQ_st']
    assert figures['coco_panoptic/PQ'] == pytest.approx((cat + dog + sky) / 3)
    assert figures['coco_panoptic/SQ_th'] == pytest.approx(100 * (7 / 9) / 2)
    assert figures['coco_panoptic/RQ_th'] == pytest.approx(100 * 0.5 / 2)


def test_pixels_of_no_segment_and_crowds_of_the_class_are_not_held_against_a_segment(tmp_path):
    ids = np.zeros((1, 30), int)
    ids[0, :5], ids[0, 10:20] = 1, 2    # 5..10 and 20.. are of no segment
    path = write(tmp_path, [(ids, [(1, 7, 0), (2, 3, 1)])])
    pred = np.full((1, 30), NOTHING)
    pred[0, :9] = CAT + 1000      # the same as the truth, but for four pixels of no segment: IoU 1
    pred[0, 10:16] = DOG + 1000    # on a crowd of its class
    pred[0, 16:19] = CAT + 2000    # on a crowd of another class: wrong
    pred[0, 19:25] = DOG + 2000    # mostly on no segment
    figures, metric = measure(path, [pred])
    assert metric.records[0].labels.tolist() == [CAT] and metric.records[0].iou.tolist() == [1]
    assert metric.records[0].wrong.tolist() == [1] and metric.records[0].missed.tolist() == [0]
    assert figures['coco_panoptic/PQ'] == pytest.approx(100 / 1.5)


@pytest.mark.parametrize('seed', range(6))
def test_perturbed_truth_is_measured_as_loops_over_segments_do(tmp_path, seed):
    r = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        ids = np.kron(r.permutation(np.arange(9)).reshape(3, 3), np.ones((8, 8), int))    # id 0 is of no segment
        segments = [(i, int(r.choice([7, 3, 200])), int(r.random() < 0.2)) for i in range(1, 9)]
        label = np.array([NOTHING, *({7: CAT, 3: DOG, 200: SKY}[c] for _, c, _ in segments)])
        number = np.where(label == SKY, 0, np.arange(9))
        pred = (label + 1000 * number * (label < SKY))[ids]
        for _ in range(6):    # move patches about, and give some to another class
            y, x, dy, dx = r.integers(0, 20, 4)
            pred[y:y + 4 + dy, x:x + 4 + dx] = r.choice(np.unique(pred)) if r.random() < 0.7 else r.integers(0, 3)
        pairs.append((ids, segments, pred))
    path = write(tmp_path, [p[:2] for p in pairs])
    figures, _ = measure(path, [p[2] for p in pairs])
    agree(figures, [(truth(*p[:2]), p[2]) for p in pairs])


@pytest.mark.parametrize('perturb', PERTURBATIONS)
def test_each_way_to_spoil_the_truth_is_measured_as_loops_over_segments_do(tmp_path, perturb):
    """Blobs of two classes of things, with a crowd, before stuff with a hole."""
    luck = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    pairs, maps = [], []
    for _ in range(3):
        ids = np.where(y < 6, 0, 1)
        segments = [(1, 200, 0)]
        for n in range(2, 8):
            cy, cx, ry, rx = luck.uniform((8, 8, 4, 4), (40, 56, 12, 12))
            ids[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = n
            segments.append((n, 7 if n % 2 else 3, int(n == 6)))
        segments = [s for s in segments if (ids == s[0]).any()]
        maps.append((ids, segments))
        whole = as_result(truth(ids, segments), (CAT, DOG), NOTHING)
        pairs.append((truth(ids, segments), perturb(whole, luck, (CAT, DOG), NOTHING)))
        assert (pairs[-1][1] != whole).any()
    figures, _ = measure(write(tmp_path, maps), [pred for _, pred in pairs])
    assert 0 < figures['coco_panoptic/PQ'] < 95
    agree(figures, pairs)


@pytest.mark.parametrize(('pred', 'expected'), [
    ([1] * 6 + [2] * 4, 60 / 1.5),    # split at six tenths: one found with IoU 0.6, one wrong
    ([1] * 5 + [2] * 5, 0),    # split in halves: an IoU of 0.5 finds nothing
    ([0] * 3 + [1] * 7, 70),    # cut short
    ([0] * 10, 0)])    # dropped
def test_one_thing_found_in_parts_worked_by_hand(tmp_path, pred, expected):
    path = write(tmp_path, [(np.full((1, 10), 5), [(5, 7, 0)])])
    pred = np.array([pred])
    figures, _ = measure(path, [np.where(pred == 0, NOTHING, CAT + 1000 * pred)])
    assert figures['coco_panoptic/PQ'] == pytest.approx(expected)


@pytest.mark.parametrize(('ids', 'expected'), [
    ([1] * 6 + [2] * 4, 60 / 1.5),    # the larger is found with IoU 0.6, the smaller is missed
    ([1] * 5 + [2] * 5, 0)])    # neither is found, and what was found is wrong
def test_two_things_found_as_one_worked_by_hand(tmp_path, ids, expected):
    path = write(tmp_path, [(np.array([ids]), [(1, 7, 0), (2, 7, 0)])])
    figures, _ = measure(path, [np.full((1, 10), CAT + 1000)])
    assert figures['coco_panoptic/PQ'] == pytest.approx(expected)


def test_a_thing_of_the_wrong_class_costs_both_classes_worked_by_hand(tmp_path):
    path = write(tmp_path, [(np.array([[1] * 4 + [2] * 4 + [3] * 2]), [(1, 7, 0), (2, 7, 0), (3, 3, 0)])])
    figures, _ = measure(path, [np.array([[CAT + 1000] * 4 + [DOG + 1000] * 4 + [DOG + 2000] * 2])])
    assert figures['coco_panoptic/PQ'] == pytest.approx(100 / 1.5)    # one found, and one missed or wrong


def test_records_of_two_processes_count_each_image_once(tmp_path):
    ids = np.repeat([[1, 2]], 3, axis=0)
    path = write(tmp_path, [(ids, [(1, 7, 0), (2, 200, 0)])] * 2)
    good, bad = np.repeat([[CAT, SKY]], 3, axis=0), np.repeat([[SKY, CAT]], 3, axis=0)
    figures, metric = measure(path, [good, bad])
    assert figures['coco_panoptic/PQ'] == pytest.approx(50)
    assert metric.compute([*metric.records, metric.records[0]]) == figures
    metric.reset()
    assert metric.compute()['coco_panoptic/PQ'] == 0


def test_results_are_written_as_coco_has_them(tmp_path):
    path = write(tmp_path, [(np.ones((2, 3), int), [(1, 7, 0)])])
    pred = np.array([[CAT + 1000, CAT + 2000, SKY], [CAT + 1000, NOTHING, SKY]])
    figures, _ = measure(path, [pred], format_only=True, outfile_prefix=tmp_path / 'out' / 'test')
    assert figures == {}
    row, = json.loads((tmp_path / 'out' / 'test.panoptic.json').read_text())['annotations']
    assert row['image_id'] == 0 and row['file_name'] == '0.png'
    assert [(s['category_id'], s['area'], s['isthing']) for s in row['segments_info']] == [
        (200, 2, 0), (7, 2, 1), (7, 1, 1)]
    ids = colors_to_ids(cv2.imread(str(tmp_path / 'out' / 'test.panoptic' / '0.png')))
    assert ids[1, 1] == 0
    for s in row['segments_info']:
        assert (ids == s['id']).sum() == s['area'] and len(np.unique(pred[ids == s['id']])) == 1


def test_ids_survive_their_colours():
    ids = np.array([[0, 1, 255, 256], [65535, 65536, 70000, 2 ** 24 - 1]])
    np.testing.assert_array_equal(colors_to_ids(ids_to_colors(ids)), ids)
    assert ids_to_colors(np.array([[3 + 256 * 2 + 65536]]))[0, 0].tolist() == [1, 2, 3]    # blue, green, red


def test_what_cannot_be_measured_is_said(tmp_path):
    with pytest.raises(ConfigError, match='ann_file'):
        CocoPanopticMetric()
    with pytest.raises(ConfigError, match='outfile_prefix'):
        CocoPanopticMetric('a.json', format_only=True)
    path = write(tmp_path, [(np.ones((2, 3), int), [(1, 7, 0)])])
    with pytest.raises(DatasetError, match='bird'):
        CocoPanopticMetric(path, classes=['cat', 'bird'])
    metric, pred = CocoPanopticMetric(path), np.zeros((4, 4), int)
    with pytest.raises(DatasetError, match=r'\(2, 3\).*\(4, 4\)'):
        metric.update([result(pred)], [meta(0, pred)])
    with pytest.raises(DatasetError, match='image 9'):
        metric.update([result(pred)], [meta(9, pred)])
    with pytest.raises(ConfigError, match='panoptic_on'):
        metric.update([result(pred).replace(panoptic=None)], [meta(0, pred)])
    (tmp_path / 'truth' / '0.png').unlink()
    with pytest.raises(DatasetError, match=r'0\.png'):
        metric.update([result(pred)], [meta(0, pred)])
