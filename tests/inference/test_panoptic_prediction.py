"""Panoptic and semantic results, from an image to files and figures."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from omnidet import Detector, build_model, load_config
from omnidet.cli import main
from omnidet.data import build_loader, build_preprocessor
from omnidet.evaluation import build_metrics
from omnidet.inference import predict_to
from omnidet.inference.classes import find_classes
from omnidet.panoptic import colors_to_ids, ids_to_colors

CLASSES = ('cat', 'dog', 'sky')
C = 16


@pytest.fixture(scope='module')
def cfg():
    """Mask2Former for two things and one kind of stuff, as small as its parts allow."""
    cfg = load_config('mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic')
    head = cfg.model.panoptic_head
    cfg.model.backbone.update(depth=18, base_channels=8, norm_cfg=dict(type='BN'), init_cfg=None)
    cfg.model.data_preprocessor.batch_augments = None
    attention, ffn = dict(embed_dims=C, num_heads=2), dict(embed_dims=C, feedforward_channels=16)
    head.update(in_channels=[8, 16, 32, 64], feat_channels=C, out_channels=C, num_queries=8,
                positional_encoding=dict(num_feats=C // 2, normalize=True))
    head.pixel_decoder.update(norm_cfg=dict(type='GN', num_groups=4),
                              positional_encoding=dict(num_feats=C // 2, normalize=True))
    head.pixel_decoder.encoder.update(num_layers=1, layer_cfg=dict(
        self_attn_cfg=dict(**attention, num_levels=3), ffn_cfg=ffn))
    head.transformer_decoder.update(num_layers=2, layer_cfg=dict(
        self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn))
    for part in (head, cfg.model.panoptic_fusion_head):
        part.update(num_things_classes=2, num_stuff_classes=1)
    head.loss_cls.class_weight = [1.0] * 3 + [0.1]
    cfg.model.test_cfg.update(object_mask_thr=0.0, iou_thr=0.0, semantic_on=True)
    cfg.test_dataloader.dataset.pipeline[1].scale = (96, 64)
    return cfg


@pytest.fixture(scope='module')
def checkpoint(cfg, tmp_path_factory):
    torch.manual_seed(3)
    model = build_model(cfg)
    torch.nn.init.normal_(model.panoptic_head.cls_embed.weight, std=3)
    path = tmp_path_factory.mktemp('weights') / 'model.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': CLASSES}}}, path)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for n in range(2):
        image = np.random.default_rng(n).integers(0, 255, (60, 80 + 20 * n, 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{n}.png'), image)
    return tmp_path / 'images'


def test_maps_are_written_as_they_were_found(cfg, checkpoint, folder, tmp_path):
    detector = Detector(cfg, checkpoint, device='cpu')
    assert detector.classes == CLASSES
    summary = predict_to(tmp_path / 'out', detector, folder)
    found = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())
    assert [a['file_name'] for a in found['annotations']] == ['0.png', '1.png']
    total = 0
    for annotation, image in zip(found['annotations'], sorted(folder.iterdir()), strict=True):
        result = detector(image)
        ids = colors_to_ids(cv2.imread(str(tmp_path / 'out' / 'panoptic' / annotation['file_name'])))
        label = np.zeros(len(annotation['segments_info']) + 2, int)
        label[0] = 3
        for s in annotation['segments_info']:
            label[s['id']] = s['category_id'] - 1
            assert (ids == s['id']).sum() == s['area']
            total += 1
        assert (label[ids] == result.panoptic.numpy() % 1000).all()
        semantic = cv2.imread(str(tmp_path / 'out' / 'semantic' / annotation['file_name']), cv2.IMREAD_UNCHANGED)
        assert (semantic == result.sem_seg.numpy()).all()
    assert total and sum(summary.counts.values()) == total and len(summary.pictures) == 2


def test_the_command_names_the_segments_file(cfg, checkpoint, folder, tmp_path, capsys):
    (tmp_path / 'small.json').write_text(json.dumps(cfg))
    arguments = [str(tmp_path / 'small.json'), str(checkpoint), str(folder), '--out', str(tmp_path / 'o'), '--device',
                 'cpu']
    assert main(['predict', *arguments]) == 0
    assert 'panoptic.json' in capsys.readouterr().out.replace('\n', '')


def test_a_model_is_measured_over_a_data_set(cfg, folder, tmp_path):
    """What the test pipeline does to an image is undone: a map has the size of its ground truth."""
    (tmp_path / 'maps').mkdir()
    images, annotations = [], []
    for n in range(2):
        ids = np.ones((60, 80 + 20 * n), int)
        ids[:30] = 2
        cv2.imwrite(str(tmp_path / 'maps' / f'{n}.png'), ids_to_colors(ids))
        images.append(dict(id=n, file_name=f'{n}.png', height=60, width=80 + 20 * n))
        annotations.append(dict(image_id=n, file_name=f'{n}.png', segments_info=[
            dict(id=1, category_id=1, iscrowd=0, bbox=[0, 30, 80, 30], area=2400),
            dict(id=2, category_id=3, iscrowd=0, bbox=[0, 0, 80, 30], area=2400)]))
    (tmp_path / 'p.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=[
        dict(id=k + 1, name=name, isthing=int(k < 2)) for k, name in enumerate(CLASSES)])))
    loader = build_loader(dict(batch_size=2, dataset=dict(
        cfg.test_dataloader.dataset, data_root=str(tmp_path), ann_file='p.json', metainfo=dict(classes=CLASSES),
        data_prefix=dict(img='images', seg='maps'))), train=False)
    metric, = build_metrics(dict(type='CocoPanopticMetric', seg_prefix=tmp_path / 'maps', classwise=True),
                            loader.dataset)
    model, preprocessor = build_model(cfg).eval(), build_preprocessor(cfg.model.data_preprocessor).eval()
    for batch in map(preprocessor, loader):
        with torch.no_grad():
            metric.update(model.predict(batch.images, batch.metas), batch.metas)
    figures = metric.compute()
    assert len(figures) == 9 and all(0 <= v <= 100 for v in figures.values())
    assert len(metric.records) == 2 and 'sky' in metric.report()


@pytest.mark.parametrize(('stuff', 'count', 'last'), [(53, 133, 'rug-merged'), (0, 80, 'toothbrush')])
def test_classes_of_coco_are_known_without_a_checkpoint(stuff, count, last):
    classes = find_classes({}, {'model': {'panoptic_head': dict(num_things_classes=80, num_stuff_classes=stuff)}})
    assert (len(classes), classes[-1]) == (count, last)
