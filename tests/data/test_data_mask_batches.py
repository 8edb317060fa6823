"""Masks from annotation file to batch and back to an evaluation: empty images, crowds, one pixel, 500 objects."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as mask_api

from omnidet.data import build_dataset, build_loader, collate
from omnidet.evaluation import build_metrics
from omnidet.structures import Result


def grid(n, w, h):
    """`n` triangles and quadrilaterals, none of which overlap."""
    columns = 25
    out = []
    for k in range(n):
        x, y = (k % columns) * w // columns, (k // columns) * 10
        corners = [x + 0.5, y + 0.5, x + 6.1, y + 1.3, x + 5.2, y + 7.9] + ([x + 1.7, y + 6.4] if k % 2 else [])
        out.append(dict(bbox=[x, y, 7, 8], category_id=10 + 10 * (k % 2), area=30, segmentation=[corners]))
    return out


@pytest.fixture
def masked(make_coco):
    """Four images: none, a crowd and a pixel, an ellipse with a part cut off, and 500 objects."""
    crowd = np.zeros((48, 64), np.uint8)
    crowd[10:40, 5:60:3] = 1
    rle = mask_api.encode(np.asfortranarray(crowd))
    runs = dict(size=[48, 64], counts=rle['counts'].decode())
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ellipse = np.stack([32 + 20 * np.cos(angles), 24 + 15 * np.sin(angles)], 1).round(2).reshape(-1).tolist()
    pixel = [20.0, 20, 21, 20, 21, 21, 20, 21]
    return make_coco([
        [],
        [dict(bbox=[5, 10, 55, 30], category_id=10, iscrowd=1, area=int(crowd.sum()), segmentation=runs),
         dict(bbox=[20, 20, 1, 1], category_id=20, area=1, segmentation=[pixel])],
        [dict(bbox=[12, 9, 40, 30], category_id=10, area=900, segmentation=[ellipse, [0.0, 0, 9.3, 0, 9.3, 7.1]])],
        grid(500, 600, 200)], sizes=[(64, 48), (64, 48), (64, 48), (600, 200)])


def truth(cfg):
    """Each image's masks as COCO's tools decode them."""
    data = json.loads(open(f'{cfg["data_root"]}/{cfg["ann_file"]}').read())    # noqa: SIM115, PTH123
    out = []
    for image in data['images']:
        masks = []
        for a in data['annotations']:
            if a['image_id'] == image['id']:
                seg = a['segmentation']
                rle = seg if isinstance(seg, dict) else mask_api.merge(
                    mask_api.frPyObjects(seg, image['height'], image['width']))
                masks.append(mask_api.decode(rle))
        out.append(np.array(masks, bool).reshape(-1, image['height'], image['width']))
    return out


@pytest.mark.parametrize('poly2mask', [True, False])
@pytest.mark.parametrize('workers', [0, 2])
def test_masks_reach_the_batch_as_coco_rasterises_them(masked, poly2mask, workers):
    if workers and not poly2mask:
        pytest.skip('one is enough')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True, poly2mask=poly2mask),
                dict(type='PackDetInputs')]
    loader = build_loader(dict(batch_size=4, num_workers=workers, dataset=dict(masked, pipeline=pipeline),
                               sampler=dict(type='DefaultSampler', shuffle=False)), train=True, seed=0)
    batch = next(iter(loader))
    masks, expected = batch.targets.masks, truth(masked)
    assert masks.shape == (4, 500, 200, 600) and batch.targets.valid.sum(dim=1).tolist() == [0, 1, 1, 500]
    assert batch.targets.ignore.sum(dim=1).tolist() == [0, 1, 0, 0]
    assert len(masks.bits) < 1e5    # 240 MB as whole images
    for i, want in enumerate(expected):
        found = masks[i].dense()
        assert torch.equal(found[:len(want), :want.shape[1], :want.shape[2]], torch.from_numpy(want))
        assert found.sum() == want.sum()


def test_polygons_stay_exact_through_resizing_and_flipping(masked):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True, poly2mask=False),
                dict(type='Resize', scale=(256, 192), keep_ratio=True), dict(type='RandomFlip', prob=1.0),
                dict(type='PackDetInputs')]
    masks = build_dataset(dict(masked, pipeline=pipeline))[2].target['masks']
    data = json.loads(open(f'{masked["data_root"]}/{masked["ann_file"]}').read())    # noqa: SIM115, PTH123
    polygons = next(a['segmentation'] for a in data['annotations'] if a['image_id'] == 2)
    scaled = [(np.array([256, 0]) + np.array([-4, 4]) * np.float32(p).astype(float).reshape(-1, 2)).reshape(-1).tolist()
              for p in polygons]
    expected = mask_api.decode(mask_api.merge(mask_api.frPyObjects(scaled, 192, 256)))
    assert torch.equal(masks.dense()[0], torch.from_numpy(expected).bool())


def test_perfect_results_score_one_and_crowds_count_for_nothing(masked):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True),
                dict(type='PackDetInputs')]
    dataset = build_dataset(dict(masked, pipeline=pipeline), test_mode=True)
    metric = build_metrics(dict(type='CocoMetric', metric=['bbox', 'segm'], proposal_nums=(100, 300, 1000)), dataset)[0]
    for i in range(len(dataset)):
        sample = dataset[i]
        batch = collate([sample])
        n = len(sample.target['boxes'])
        result = Result(batch.targets.boxes[0, :n], torch.linspace(1, 0.5, n), batch.targets.labels[0, :n],
                        masks=batch.targets.masks[0, :n])
        metric.update([result], [sample.meta])
    figures = metric.compute()
    assert figures['coco/segm_mAP_50'] == figures['coco/segm_mAP_75'] == figures['coco/bbox_mAP_50'] == 1
    assert '502 objects' in metric.report()
