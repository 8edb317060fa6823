"""COCO metrics: hand-worked figures, what COCO's own tools say, and inputs with holes."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation import CocoMetric, build_metrics
from omnidet.registry import METRICS
from omnidet.structures import ImageMeta, Result

TWELVE = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@1', 'AR@10', 'AR@100', 'AR_s@100', 'AR_m@100',
          'AR_l@100']


def coco(annotations, images=1, classes=('cat', 'dog'), size=200):
    """A COCO json: `annotations` are dicts with image (from 1), label and bbox; ids of categories are 10, 20, ..."""
    return {'images': [{'id': i + 1, 'file_name': f'{i + 1}.jpg', 'height': size, 'width': size}
                       for i in range(images)],
            'categories': [{'id': 10 * (k + 1), 'name': c} for k, c in enumerate(classes)],
            'annotations': [{'id': i, 'image_id': a['image'], 'category_id': 10 * (a['label'] + 1), 'bbox': a['bbox'],
                             **{k: v for k, v in a.items() if k not in ('image', 'label', 'bbox')}}
                            for i, a in enumerate(annotations)]}


def write(folder, data):
    path = Path(folder) / 'truth.json'
    path.write_text(json.dumps(data))
    return path


def result(*rows, masks=None):
    """rows: (x, y, w, h, score, label)."""
    t = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    boxes = torch.cat([t[:, :2], t[:, :2] + t[:, 2:4]], 1)
    return Result(boxes, t[:, 4], t[:, 5].long(), masks)


def feed(metric, results):
    for i, r in enumerate(results, 1):
        metric.update([r], [ImageMeta((200, 200), (200, 200), img_id=i)])
    return metric


def test_average_precision_of_a_case_worked_by_hand(tmp_path):
    # two cats of 100 x 100 px; found: one exactly (0.9), then a box on nothing (0.8), then the other at IoU 0.68 (0.7).
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 100, 100]},
                  {'image': 1, 'label': 0, 'bbox': [100, 0, 100, 100]}])
    metric = feed(CocoMetric(write(tmp_path, truth), classes=['cat']),
                  [result((0, 0, 100, 100, .9, 0), (0, 100, 50, 50, .8, 0), (100, 0, 100, 68, .7, 0))])
    figures = metric.compute()
    # at IoU 0.5, 0.55, 0.6 and 0.65: precision is 1 at 51 of the 101 recalls (0 to 0.5), 2/3 at the other 50;
    # at the other six thresholds only the first box counts: precision 1 at 51 recalls, 0 beyond.
    good, half = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert figures['coco/bbox_mAP_50'] == pytest.approx(good)
    assert figures['coco/bbox_mAP_75'] == pytest.approx(half)
    assert figures['coco/bbox_mAP'] == pytest.approx((4 * good + 6 * half) / 10)
    assert figures['coco/bbox_mAP_l'] == pytest.approx((4 + 6 * half) / 10)    # the wrong box is not a large one
    assert figures['coco/bbox_mAP_s'] == figures['coco/bbox_mAP_m'] == -1    # there is nothing of that size to find


def test_a_detection_on_a_crowd_is_neither_right_nor_wrong(tmp_path):
    cat = {'image': 1, 'label': 0, 'bbox': [0, 0, 50, 50]}
    crowd = {'image': 1, 'label': 0, 'bbox': [100, 100, 100, 100], 'iscrowd': 1}
    found = [result((110, 110, 40, 40, .9, 0), (0, 0, 50, 50, .8, 0))]
    assert feed(CocoMetric(write(tmp_path, coco([cat, crowd]))), found).compute()['coco/bbox_mAP'] == 1
    assert feed(CocoMetric(write(tmp_path, coco([cat]))), found).compute()['coco/bbox_mAP'] == pytest.approx(0.5)


@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@pytest.mark.parametrize('seed', range(3))
def test_all_twelve_figures_equal_those_of_pycocotools(tmp_path, iou_type, seed):
    truth, results = random_case(seed)
    path = write(tmp_path, truth)
    metric = feed(CocoMetric(path, metric=iou_type, proposal_nums=(100, 1, 10), metric_items=TWELVE,
                             outfile_prefix=tmp_path / 'out'), results)
    ours = metric.compute()
    theirs = pycocotools_stats(truth, results, iou_type, [100, 1, 10])
    assert list(ours) == [f'coco/{iou_type}_{k}' for k in TWELVE]
    np.testing.assert_allclose(list(ours.values()), theirs, rtol=0, atol=1e-9)
    assert 0.05 < theirs[0] < 0.95    # the case means something


def test_default_proposal_numbers_count_detections_as_pycocotools_does(tmp_path):
    truth, results = random_case(5, images=2, extra=150)
    items = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100', 'AR@300', 'AR@1000', 'AR_s@1000',
             'AR_m@1000', 'AR_l@1000']
    ours = feed(CocoMetric(write(tmp_path, truth), metric_items=items), results).compute()
    theirs = pycocotools_stats(truth, results, 'bbox', [100, 300, 1000])
    np.testing.assert_allclose(list(ours.values()), theirs, atol=1e-9)


def test_proposals_are_recalled_whatever_their_class(tmp_path):
    truth, results = random_case(1)
    blind = [Result(r.boxes, r.scores, torch.zeros_like(r.labels)) for r in results]
    ours = feed(CocoMetric(write(tmp_path, truth), metric='proposal'), blind).compute()
    theirs = pycocotools_stats(truth, blind, 'bbox', [100, 300, 1000], use_cats=0)[6:]
    assert list(ours) == ['coco/AR@100', 'coco/AR@300', 'coco/AR@1000', 'coco/AR_s@1000', 'coco/AR_m@1000',
                          'coco/AR_l@1000']
    np.testing.assert_allclose(list(ours.values()), theirs, atol=1e-9)


def test_fast_recall_matches_one_to_one_and_leaves_out_crowds(tmp_path):
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 10, 10]}, {'image': 1, 'label': 1, 'bbox': [0, 0, 10, 8]},
                  {'image': 1, 'label': 0, 'bbox': [50, 50, 90, 90], 'iscrowd': 1}])
    metric = CocoMetric(write(tmp_path, truth), metric='proposal_fast', proposal_nums=(1, 2), iou_thrs=[0.5, 0.9])
    figures = feed(metric, [result((100, 100, 10, 10, .9, 0), (0, 0, 10, 10, .5, 0))]).compute()
    # the best proposal finds nothing; of the best two, one finds one of two boxes, at both thresholds
    assert figures == {'coco/AR@1': 0.0, 'coco/AR@2': 0.5}


def test_a_class_subset_counts_only_its_own_categories(tmp_path):
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 50, 50]}, {'image': 1, 'label': 2, 'bbox': [90, 90, 50, 50]}],
                 classes=('cat', 'dog', 'owl'))
    found = [result((90, 90, 50, 50, .9, 0))]    # label 0 is the owl here
    figures = feed(CocoMetric(write(tmp_path, truth), classes=('owl',), classwise=True), found).compute()
    assert figures['coco/bbox_mAP'] == figures['coco/owl_precision'] == 1


def test_labels_follow_the_order_of_the_classes_not_of_the_file(tmp_path):
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 50, 50]}])
    swapped = feed(CocoMetric(write(tmp_path, truth), classes=('dog', 'cat')), [result((0, 0, 50, 50, .9, 1))])
    assert swapped.compute()['coco/bbox_mAP'] == 1


def test_classes_that_the_file_lacks_are_an_error_with_both_lists(tmp_path):
    with pytest.raises(DatasetError, match=r"no category 'cats'; did you mean 'cat'\?[^$]*cats, dog\n.*cat, dog"):
        CocoMetric(write(tmp_path, coco([])), classes=('cats', 'dog'))
    with pytest.raises(DatasetError, match='name one category twice: cat, cat'):
        CocoMetric(write(tmp_path, coco([])), classes=('cat', 'cat'))


def test_a_file_that_lists_some_of_the_classes_is_measured_on_those(tmp_path):
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 50, 50]}], classes=('owl',))
    metric = CocoMetric(write(tmp_path, truth), classes=('cat', 'owl'), outfile_prefix=tmp_path / 'out')
    feed(metric, [result((0, 0, 50, 50, .9, 1), (0, 0, 50, 50, .9, 0))])
    assert metric.compute()['coco/bbox_mAP'] == 1
    assert len(json.loads((tmp_path / 'out.bbox.json').read_text())) == 1


def test_no_detections_give_zero_and_no_ground_truth_gives_minus_one(tmp_path):
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 50, 50]}], images=2)
    assert feed(CocoMetric(write(tmp_path, truth)), [result(), result()]).compute()['coco/bbox_mAP'] == 0
    empty = feed(CocoMetric(write(tmp_path, coco([])), metric=['bbox', 'segm', 'proposal', 'proposal_fast']),
                 [result((0, 0, 9, 9, .5, 0), masks=torch.ones(1, 200, 200, dtype=torch.bool))])
    assert set(empty.compute().values()) == {-1}
    assert set(CocoMetric(write(tmp_path, truth)).compute([]).values()) == {-1}


def test_a_detection_in_an_image_without_annotation_is_wrong(tmp_path):
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 50, 50]}], images=2)
    right = result((0, 0, 50, 50, .5, 0))
    wrong = result((0, 0, 50, 50, .9, 0))
    assert feed(CocoMetric(write(tmp_path, truth)), [right, result()]).compute()['coco/bbox_mAP'] == 1
    assert feed(CocoMetric(write(tmp_path, truth)), [right, wrong]).compute()['coco/bbox_mAP'] == pytest.approx(0.5)


def test_images_without_size_are_fine_for_boxes(tmp_path):
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 50, 50]}])
    del truth['images'][0]['height'], truth['categories'][1]
    assert feed(CocoMetric(write(tmp_path, truth)), [result((0, 0, 50, 50, .5, 0))]).compute()['coco/bbox_mAP'] == 1


def test_masks_come_as_polygons_or_run_lengths_and_a_missing_one_is_ignored(tmp_path):
    polygon = [[10, 10, 60, 10, 60, 60, 10, 60]]
    runs = {'size': [200, 200], 'counts': [100 * 200, 100 * 200]}    # the right half, column by column
    truth = coco([{'image': 1, 'label': 0, 'bbox': [10, 10, 50, 50], 'segmentation': polygon},
                  {'image': 1, 'label': 1, 'bbox': [100, 0, 100, 200], 'segmentation': runs},
                  {'image': 1, 'label': 0, 'bbox': [0, 100, 40, 40], 'segmentation': []}])
    masks = torch.zeros(3, 200, 200, dtype=torch.bool)
    masks[0, 10:60, 10:60] = masks[1, :, 100:] = masks[2, 100:140, :40] = True
    boxes = result((0, 0, 1, 1, .6, 0), (0, 0, 1, 1, .8, 1), (0, 0, 1, 1, .9, 0), masks=masks)
    figures = feed(CocoMetric(write(tmp_path, truth), metric='segm'), [boxes]).compute()
    assert figures['coco/segm_mAP'] == 1


def test_records_are_small_picklable_and_hold_no_pixels(tmp_path):
    path = write(tmp_path, coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 9, 9], 'segmentation': [[0, 0, 9, 0, 9, 9]]}]))
    metric = CocoMetric(path, metric='segm')
    feed(metric, [result(*[(0, 0, 99, 99, .5, 0)] * 50, masks=torch.ones(50, 200, 200, dtype=torch.bool))])
    assert len(pickle.dumps(metric.records)) < 20_000    # the masks themselves are 2 MB


def test_records_of_several_ranks_in_any_order_give_the_same_figures(tmp_path):
    truth, results = random_case(2)
    metric = feed(CocoMetric(write(tmp_path, truth)), results)
    once = metric.compute()
    again = pickle.loads(pickle.dumps(metric.records[::-1] + metric.records[:3]))    # some images seen twice
    assert metric.compute(again) == once
    metric.reset()
    assert metric.records == []


def test_results_are_exported_as_coco_json_that_scores_the_same(tmp_path):
    pytest.importorskip('pycocotools')
    truth, results = random_case(3)
    metric = feed(CocoMetric(write(tmp_path, truth), metric=['bbox', 'segm'], format_only=True,
                             outfile_prefix=tmp_path / 'sub' / 'out'), results)
    assert metric.compute() == {}
    assert sorted(p.name for p in (tmp_path / 'sub').iterdir()) == ['out.bbox.json', 'out.segm.json']
    rows = json.loads((tmp_path / 'sub' / 'out.segm.json').read_text())
    assert {r['category_id'] for r in rows} <= {10, 20, 30} and {'size', 'counts'} == set(rows[0]['segmentation'])
    direct = pycocotools_stats(truth, results, 'segm', [1, 10, 100])
    np.testing.assert_allclose(score_rows(truth, [{k: v for k, v in r.items() if k != 'bbox'} for r in rows], 'segm',
                                          [1, 10, 100]), direct, atol=1e-9)


def test_a_failed_export_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / 'out.bbox.json').write_text('old')
    metric = feed(CocoMetric(write(tmp_path, coco([])), outfile_prefix=tmp_path / 'out'), [result((0, 0, 9, 9, .5, 0))])

    def fail(*_, **__):
        raise OSError('no space left')
    monkeypatch.setattr(Path, 'write_text', fail)
    with pytest.raises(OSError, match='no space'):
        metric.compute()
    monkeypatch.undo()
    assert (tmp_path / 'out.bbox.json').read_text() == 'old'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out.bbox.json', 'truth.json']


def test_the_report_shows_the_twelve_figures_and_the_table(tmp_path):
    truth, results = random_case(4)
    metric = feed(CocoMetric(write(tmp_path, truth), classwise=True, proposal_nums=(100, 1, 10)), results)
    figures = metric.compute()
    text = metric.report()
    assert all(name in text for name in [*TWELVE, 'cat', 'dog', 'owl', 'AP50'])
    assert f"{figures['coco/bbox_mAP']:.3f}" in text and f"{figures['coco/dog_precision']:.3f}" in text
    assert '6 of 6 images' in text


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'metric': 'bbbox'}, "CocoMetric.metric: there is no 'bbbox'; did you mean 'bbox'"),
    ({'metric_items': ['map_50']}, "metric_items: there is no 'map_50'; did you mean 'mAP_50'"),
    ({'format_only': True}, 'needs outfile_prefix'),
    ({'ann_file': None}, 'needs ann_file'),
    ({'backend_args': {'backend': 'petrel'}}, "not backend 'petrel'"),
])
def test_arguments_out_of_range_are_named(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        CocoMetric(**{'ann_file': write(tmp_path, coco([])), **arguments})


@pytest.mark.parametrize(('text', 'message'), [
    ('{"images": [', 'is not a json file'), ('[1, 2]', 'found a list'), ('{"a": 1}', r"found the keys \['a'\]"),
    ('{"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}],'
     ' "annotations": [{"id": 5, "image_id": 1, "category_id": 1}]}', r'annotations\[0\] \(id 5\).*bbox')])
def test_a_file_that_is_no_coco_json_is_named(tmp_path, text, message):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(DatasetError, match=message):
        CocoMetric(tmp_path / 'a.json')
    with pytest.raises(DatasetError, match='does not exist'):
        CocoMetric(tmp_path / 'b.json')


def test_results_that_cannot_be_of_this_data_set_are_named(tmp_path):
    metric = CocoMetric(write(tmp_path, coco([])))
    with pytest.raises(DatasetError, match='no image with the id 7'):
        metric.update([result()], [ImageMeta((9, 9), (9, 9), img_id=7)])
    with pytest.raises(ConfigError, match='found class 5, but the data set has 2'):
        feed(metric, [result((0, 0, 9, 9, .5, 5))]).compute()
    truth = coco([{'image': 1, 'label': 0, 'bbox': [0, 0, 9, 9], 'segmentation': [[0, 0, 9, 0, 9, 9]]}])
    with pytest.raises(ConfigError, match='boxes only'):
        feed(CocoMetric(write(tmp_path, truth), metric='segm'), [result((0, 0, 9, 9, .5, 0))]).compute()


def test_evaluators_take_file_and_classes_from_the_dataset_where_the_config_is_silent(tmp_path):
    class Dataset:
        classes = ('dog',)
        ann_path = write(tmp_path, coco([]))

    cfg = [{'type': 'CocoMetric', 'ann_file': None}, {'type': 'mmdet.CocoMetric', 'metric': 'proposal_fast'}]
    before = copy.deepcopy(cfg)
    first, second = build_metrics(cfg, Dataset())
    assert first.truth.classes == ('dog',) and first.truth.path == Dataset.ann_path
    assert second.metrics == ['proposal_fast']
    assert cfg == before
    assert len(build_metrics(cfg[0], Dataset())) == 1 and build_metrics(None, Dataset()) == []


def test_a_metric_of_the_users_own_gets_only_what_it_takes():
    class Count:
        def __init__(self, classes):
            self.classes = classes

    METRICS.register_module(name='CountForThisTest', module=Count)
    class Dataset:
        classes, ann_path = ('a', 'b'), 'nowhere.json'
    assert build_metrics({'type': 'CountForThisTest'}, Dataset())[0].classes == ('a', 'b')


def random_case(seed, images=6, extra=8):
    """Ground truth with crowds and holes, and results near it, with masks; three classes."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, images + 1):
        rows, masks = [], []
        for _ in range(0 if image == 2 else rng.integers(1, 9)):
            x, y, w, h = *rng.uniform(0, 100, 2), *(rng.choice([12, 40, 95], 2) * rng.uniform(.7, 1.05, 2))
            label = int(rng.integers(3))
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append({'image': image, 'label': label, 'bbox': [x, y, w, h], 'area': w * h,
                                'iscrowd': int(rng.random() < .2), 'segmentation': [corners]})
            if rng.random() < .8:
                jitter = rng.normal(0, .06, 4) * [w, h, w, h]
                rows.append((*np.add((x, y, w, h), jitter), rng.integers(1, 20) / 20, label))    # with equal scores
        rows += [(*rng.uniform(0, 120, 2), *rng.uniform(8, 70, 2), rng.integers(1, 20) / 20, rng.integers(3))
                 for _ in range(extra)]
        for x, y, w, h, *_ in rows:
            mask = torch.zeros(200, 200, dtype=torch.bool)
            mask[max(round(y), 0):round(y + h), max(round(x), 0):round(x + w)] = True
            masks.append(mask)
        results.append(result(*rows, masks=torch.stack(masks)))
    return coco(annotations, images, ('cat', 'dog', 'owl')), results


def pycocotools_stats(truth, results, iou_type, max_dets, use_cats=1):
    mask_api = pytest.importorskip('pycocotools.mask')
    rows = []
    for image, r in enumerate(results, 1):
        for k in range(len(r)):
            row = {'image_id': image, 'category_id': 10 * (int(r.labels[k]) + 1), 'score': float(r.scores[k])}
            if iou_type == 'segm':
                row['segmentation'] = mask_api.encode(np.asfortranarray(r.masks[k].numpy().astype(np.uint8)))
            else:
                x1, y1, x2, y2 = r.boxes[k].tolist()
                row['bbox'] = [x1, y1, x2 - x1, y2 - y1]
            rows.append(row)
    return score_rows(truth, rows, iou_type, max_dets, use_cats)


def score_rows(truth, rows, iou_type, max_dets, use_cats=1):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    truth = copy.deepcopy(truth)
    for annotation in truth['annotations']:
        annotation['id'] += 1    # COCO's own tools take an id of 0 for 'not matched'
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(rows), iou_type)
        run.params.maxDets, run.params.useCats = max_dets, use_cats
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats
