"""Test-time augmentation: versions of an image, undone exactly and merged."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from omnidet.config import load_config
from omnidet.engine import save_checkpoint, test
from omnidet.engine.evaluate import tta_settings
from omnidet.errors import ConfigError
from omnidet.models.detectors.test_time import DetTTAModel, unflip
from omnidet.registry import DETECTORS, TRANSFORMS
from omnidet.structures import ImageMeta, Result

NMS = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
PACK = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                                             'flip_direction'))
FLIPS = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]


@DETECTORS.register
class Seer(nn.Module):
    """Finds what is bright: one box for each image, exactly around it; its score is the image's width."""

    def __init__(self, data_preprocessor=None):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.seen = []

    def predict(self, images, metas, rescale=True):
        out = []
        for image, meta in zip(images, metas, strict=True):
            self.seen.append((*meta.img_shape, meta.flip_direction))
            bright = image[0, :meta.img_shape[0], :meta.img_shape[1]] > 127
            y, x = torch.where(bright)
            box = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
            mask = torch.zeros(meta.ori_shape, dtype=torch.bool)
            box = box / torch.tensor([*meta.scale_factor, *meta.scale_factor])
            x1, y1, x2, y2 = box.round().int().tolist()
            mask[y1:y2, x1:x2] = True
            out.append(Result(box[None], torch.tensor([meta.img_shape[1] / 1000]), torch.tensor([0]), mask[None]))
        return out


def pictures(folder, boxes, size=(60, 80)):
    """A COCO set with one bright box in each image; the loaders' and the evaluator's config."""
    h, w = size
    data = dict(images=[], annotations=[], categories=[dict(id=1, name='thing')])
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        image = np.zeros((h, w, 3), np.uint8)
        image[y1:y2, x1:x2] = 255
        cv2.imwrite(str(folder / f'{n}.png'), image)
        data['images'].append(dict(id=n, file_name=f'{n}.png', height=h, width=w))
        data['annotations'].append(dict(id=n, image_id=n, category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1], iscrowd=0,
                                        area=(x2 - x1) * (y2 - y1)))
    (folder / 'truth.json').write_text(json.dumps(data))
    dataset = dict(type='CocoDataset', data_root=str(folder), ann_file='truth.json', test_mode=True,
                   metainfo=dict(classes=('thing',)),
                   pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(80, 60)), PACK])
    return dict(model=dict(type='Seer'), test_dataloader=dict(batch_size=2, num_workers=0, dataset=dataset),
                test_evaluator=dict(type='CocoMetric', iou_thrs=[0.99]))


def result(*rows, size=(10, 20)):
    """rows: (x1, y1, x2, y2, score, label), with the box as its mask."""
    masks = torch.zeros(len(rows), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2, *_) in zip(masks, rows):
        mask[y1:y2, x1:x2] = True
    t = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Result(t[:, :4], t[:, 4], t[:, 5].long(), masks)


def test_versions_are_every_way_through_the_lists():
    tta = TRANSFORMS.build(dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(s, s), keep_ratio=False) for s in (8, 4)], FLIPS, [PACK]]))
    image = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
    before = image.copy()
    samples = tta(dict(img=image, img_shape=(6, 6), ori_shape=(6, 6)))
    assert [(s.meta.img_shape, s.meta.flip_direction) for s in samples] == [
        ((8, 8), 'horizontal'), ((8, 8), None), ((4, 4), 'horizontal'), ((4, 4), None)]
    assert torch.equal(samples[0].image.flip(2), samples[1].image)
    assert (image == before).all()


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal', None])
def test_flips_are_undone_exactly(direction):
    size, dims = (10, 20), {'horizontal': [2], 'vertical': [1], 'diagonal': [1, 2], None: []}[direction]
    true = result((2, 1, 7, 4, .9, 0), (10, 5, 20, 10, .8, 0), size=size)
    w, h = size[1], size[0]
    x1, y1, x2, y2 = true.boxes.unbind(1)
    mirrored = torch.stack([w - x2 if 2 in dims else x1, h - y2 if 1 in dims else y1,
                            w - x1 if 2 in dims else x2, h - y1 if 1 in dims else y2], 1)
    seen = true.replace(boxes=mirrored, masks=true.masks.flip(dims) if dims else true.masks)
    back = unflip(seen, ImageMeta(size, size, flip_direction=direction))
    assert torch.equal(back.boxes, true.boxes) and torch.equal(back.masks, true.masks)


def test_merging_keeps_the_best_of_each_object_with_its_mask():
    merged = DetTTAModel(nn.Identity(), NMS).merge([
        result((0, 0, 10, 10, .5, 0), (12, 0, 18, 5, .9, 0)),
        result((0, 0, 10, 9, .7, 0), (0, 0, 10, 10, .6, 1)), result()])
    assert merged.scores.tolist() == pytest.approx([.9, .7, .6]) and merged.labels.tolist() == [0, 0, 1]
    assert merged.boxes.tolist() == [[12, 0, 18, 5], [0, 0, 10, 9], [0, 0, 10, 10]]
    assert merged.masks.sum((1, 2)).tolist() == [30, 90, 100]
    two = result((0, 0, 10, 10, .5, 0), (12, 0, 18, 5, .9, 0))
    few = DetTTAModel(nn.Identity(), dict(NMS, max_per_img=1)).merge([two])
    assert few.boxes.tolist() == [[12, 0, 18, 5]]
    boxes_only = result((0, 0, 9, 9, .5, 0)).replace(masks=None)
    assert DetTTAModel(nn.Identity(), NMS).merge([boxes_only, result((12, 0, 18, 5, .9, 0))]).masks is None


def test_test_looks_at_every_version_and_finds_each_object_once(tmp_path):
    boxes = [(4, 8, 24, 20), (40, 10, 76, 56), (0, 0, 80, 20)]
    cfg = pictures(tmp_path, boxes)
    cfg.update(tta_model=dict(type='DetTTAModel', tta_cfg=NMS), tta_pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='TestTimeAug', transforms=[
            [dict(type='Resize', scale=s, keep_ratio=True) for s in ((80, 60), (160, 120))], FLIPS, [PACK]])])
    save_checkpoint(tmp_path / 'a.pth', {'state_dict': Seer().state_dict()})
    out = tmp_path / 'results.json'
    got = test(cfg, tmp_path / 'a.pth', device='cpu', quiet=True, tta=True, out=out)
    assert got['metrics']['coco/bbox_mAP'] == 1    # at an IoU of 0.99, each found and none found twice
    rows = json.loads((tmp_path / 'results.bbox.json').read_text())
    assert [row['score'] for row in rows] == pytest.approx([0.16] * 3)    # the best version of each: 160 pixels wide
    plain = test(cfg, tmp_path / 'a.pth', device='cpu', quiet=True, out=out)
    assert plain['metrics']['coco/bbox_mAP'] == 1
    assert [r['score'] for r in json.loads((tmp_path / 'results.bbox.json').read_text())] == pytest.approx([0.08] * 3)


def test_config_without_a_pipeline_for_it_is_mirrored(tmp_path):
    cfg = pictures(tmp_path, [(4, 8, 24, 20)])
    model, pipeline = tta_settings(cfg)
    assert model['tta_cfg']['nms']['iou_threshold'] == 0.5
    assert [t['type'] for t in pipeline] == ['LoadImageFromFile', 'Resize', 'TestTimeAug']
    save_checkpoint(tmp_path / 'a.pth', {'state_dict': Seer().state_dict()})
    got = test(cfg, tmp_path / 'a.pth', device='cpu', quiet=True, tta=True)
    assert got['metrics']['coco/bbox_mAP'] == 1
    cfg['test_dataloader']['dataset']['pipeline'].pop()
    with pytest.raises(ConfigError, match="ends with PackDetInputs; this one ends with 'Resize'"):
        tta_settings(cfg)


@pytest.mark.parametrize('name', ['retinanet/retinanet_r50_fpn_1x_coco', 'rtmdet/rtmdet_tiny_8xb32-300e_coco'])
def test_pipelines_of_the_zoo_make_six_versions(name):
    model, pipeline = tta_settings(load_config(name))
    image = np.zeros((30, 40, 3), np.uint8)
    results = TRANSFORMS.build(pipeline[1])(dict(img=image, img_shape=(30, 40), ori_shape=(30, 40), instances=[]))
    assert len(results) == 6 and sum(s.meta.flip_direction is None for s in results) == 3
    assert DETECTORS.build(model, module=nn.Identity()).max_per_img == 100


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match='lists of transforms'):
        TRANSFORMS.build(dict(type='TestTimeAug', transforms=[FLIPS[0]]))
    with pytest.raises(ConfigError, match='tta_cfg: iou_thr is unknown'):
        DetTTAModel(nn.Identity(), dict(iou_thr=0.5))
