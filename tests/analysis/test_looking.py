"""Pictures of data and of results, speeds, and anchors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import omnidet
from omnidet.analysis.anchors import box_sizes, fit_anchors, size_iou
from omnidet.analysis.browse import browse, census, draw_sample
from omnidet.analysis.ranking import draw_ranked, image_score, rank
from omnidet.analysis.results import Found, read_found
from omnidet.analysis.speed import dataset_speed, loader_speed, model_speed
from omnidet.data import build_dataset
from omnidet.demo.shapes import CLASSES
from omnidet.errors import ConfigError, DatasetError
from omnidet.evaluation.dump import DumpDetResults
from omnidet.masks import InstanceMasks
from omnidet.structures import ImageMeta, Result, Sample


def test_samples_are_drawn_with_their_boxes(cfg, tmp_path):
    dataset, paths = browse(cfg, 'train', tmp_path, number=2)
    assert sorted(p.name for p in paths) == ['00001.jpg', '00003.jpg']    # spread over four
    assert (tmp_path / 'sheet.jpg').is_file()
    plain, drawn = dataset[0].image.permute(1, 2, 0).numpy().astype(int), cv2.imread(str(tmp_path / '00001.jpg'))
    assert drawn is not None
    x1, _, x2, y2 = (round(v) for v in dataset[0].target['boxes'][0].tolist())
    edge = abs(drawn.astype(int) - plain)[min(y2, 95) - 1, x1 + 2:x2 - 2].max(1)
    assert (edge > 20).mean() > 0.5
    originals = browse(cfg, 'train', tmp_path / 'all', number=0, transformed=False)[1]
    assert len(originals) == 4
    with pytest.raises(ConfigError, match='no val_dataloader'):
        browse(cfg, 'val', tmp_path)


def test_the_census_counts_objects_and_the_images_that_have_them(cfg):
    dataset = build_dataset(cfg['train_dataloader']['dataset'])
    found = census(dataset)
    labels = [[x['bbox_label'] for x in dataset.load(i)['instances']] for i in range(4)]
    assert found.images == 4 and found.empty == sum(not of_image for of_image in labels)
    assert found.rows == [(name, sum(of_image.count(k) for of_image in labels), sum(k in o for o in labels))
                          for k, name in enumerate(CLASSES)]
    assert found.sizes == (96, 96)


def test_a_sample_of_floats_with_masks_and_a_map_is_drawn():
    masks = torch.zeros(1, 40, 40, dtype=torch.bool)
    masks[0, 10:30, 10:30] = True
    target = dict(boxes=torch.tensor([[10.0, 10, 30, 30]]), labels=torch.tensor([1]),
                  masks=InstanceMasks.from_dense(masks), sem_seg=torch.full((40, 40), 255))
    picture = draw_sample(Sample(torch.full((3, 40, 40), 300.0), target, ImageMeta((40, 40), (40, 40))), ('a', 'b'))
    assert picture.dtype == np.uint8 and (picture[35:, 35:] == 255).all()    # too bright is white; no class, no paint
    assert (picture[18:22, 18:22] != 255).any(-1).all()


def found_of(boxes: list[Any], detections: list[Any]) -> Found:
    """Boxes are (label, box), detections (label, box, score)."""
    result = Result(torch.tensor([d[1] for d in detections]).float().reshape(-1, 4),
                    torch.tensor([d[2] for d in detections]).float(), torch.tensor([d[0] for d in detections]).long())
    return Found(dict(instances=[dict(bbox=b, bbox_label=k) for k, b in boxes], img_id=1, img_path='a'), result)


def test_an_image_s_score_is_its_average_precision_worked_by_hand():
    box, other = [0, 0, 99, 99], [200, 200, 299, 299]    # 100 x 100 with their last pixels
    assert image_score(found_of([(0, box)], [(0, box, 0.9)])) == 1
    assert image_score(found_of([(0, box)], [(1, box, 0.9)])) == 0
    assert image_score(found_of([(0, box), (1, other)], [(0, box, 0.9)])) == 0.5
    assert image_score(found_of([(0, box)], [(0, other, 0.9), (0, box, 0.5)])) == pytest.approx(0.5)
    # IoU 0.8: right at the seven thresholds from 0.5 to 0.8
    assert image_score(found_of([(0, box)], [(0, [0, 0, 99, 79], 0.9)])) == pytest.approx(0.7)
    assert image_score(found_of([], [])) == 1
    assert image_score(found_of([], [(0, box, 0.75)])) == 0.25


def test_the_best_and_worst_images_are_drawn(cfg, tmp_path):
    dataset = build_dataset(cfg['test_dataloader']['dataset'], test_mode=True)
    dump = DumpDetResults(tmp_path / 'r.pkl', dataset=dataset)
    for i, image_id in enumerate(dataset.image_ids):
        objects = dataset.load(i)['instances']
        right = i == 1
        dump.update([Result(torch.tensor([x['bbox'] for x in objects]), torch.full((len(objects),), 0.9),
                            torch.tensor([x['bbox_label'] if right else (x['bbox_label'] + 3) % 6 for x in objects]))],
                    [ImageMeta((96, 96), (96, 96), img_id=image_id)])
    dump.compute()
    ranked = rank(read_found(cfg, tmp_path / 'r.pkl')[1])
    assert ranked[0][0] == 1 and ranked[0][1].record['img_id'] == dataset.image_ids[1]
    good, bad = draw_ranked(tmp_path, ranked, dataset.classes, most=5)
    assert [p.name for p in good] == ['1.000_00002.jpg'] and len(bad) == 1
    picture = cv2.imread(str(good[0]))
    assert picture is not None and picture.shape[:2] == (96, 96 * 2 + 6)
    assert (tmp_path / 'good.jpg').is_file() and (tmp_path / 'bad.jpg').is_file()


def test_speeds_count_images_and_leave_the_warm_up_out(cfg):
    found = loader_speed(cfg, 'train', steps=1, warmup=1)
    assert (found.images, found.shape) == ([2], (96, 96))
    assert found.rate == pytest.approx(2 / found.seconds[0])
    assert dataset_speed(cfg, 'train', steps=5, warmup=1).images == [1] * 5
    with pytest.raises(ConfigError, match='--num-warmup'):
        loader_speed(cfg, 'train', steps=1, warmup=9)
    model = omnidet.load_config('demo/rtmdet_shapes').model
    told: list[int] = []
    found = model_speed(dict(cfg, model=model), device='cpu', steps=2, warmup=0, fuse=True,
                        tell=lambda done, rate: told.append(done))
    assert found.images == [2, 1] and told == [1, 2]    # three images, two at once
    found = model_speed(dict(model=model), device='cpu', steps=2, warmup=1, shape=(64, 96), batch_size=3)
    assert (found.images, found.shape, len(found.seconds)) == ([3, 3], (64, 96), 2)


def test_anchors_are_the_sizes_that_a_set_is_made_of():
    rng = np.random.default_rng(1)
    made = np.array([[10.0, 12], [40, 20], [30, 90], [200, 180]])
    sizes = np.concatenate([s * rng.uniform(0.95, 1.05, (50, 2)) for s in made])
    found = fit_anchors(sizes, 4)
    assert np.abs(found.anchors / made - 1).max() < 0.03
    assert found.mean_iou > 0.93 and found.recall == 1 and found.boxes == 200
    expected = size_iou(sizes, found.anchors).max(1).mean()
    assert found.mean_iou == pytest.approx(expected)
    with pytest.raises(DatasetError, match='9 anchors cannot be fitted to 3 boxes'):
        fit_anchors(sizes[:3])


def test_boxes_are_measured_in_the_images_that_the_model_gets(cfg, shapes: Path):
    dataset = build_dataset(cfg['train_dataloader']['dataset'])
    plain, doubled = box_sizes(dataset, (96, 96)), box_sizes(dataset, (192, 400))
    assert np.allclose(doubled, 2 * plain) and len(plain) == sum(len(dataset.load(i)['instances']) for i in range(4))


def test_iou_of_sizes_is_that_of_boxes_with_one_centre():
    assert size_iou(np.array([[4.0, 4]]), np.array([[2.0, 8], [4, 4]])).tolist() == [[8 / 24, 1.0]]
