"""Our configs are the experiments that MMDetection 3.3 has under the same names.

`zoo_hashes*.json.gz` hold, for each of them, a hash of every top-level key as MMDetection's own reader resolved it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from omnidet.config import load_config, zoo_names
from omnidet.errors import ConfigError

RECORDED = {name: hashes for file in sorted(Path(__file__).parent.glob('zoo_hashes*.json.gz'))
            for name, hashes in json.loads(gzip.decompress(file.read_bytes())).items()}

# Where the recorded experiment cannot run, ours is mended: CocoMetric has no argument eval_mode.
MENDED = {'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712-cocofmt': ('val_evaluator', 'test_evaluator')}


def key_hashes(cfg):
    plain = json.loads(json.dumps(cfg))
    return {k: hashlib.sha1(json.dumps(v, sort_keys=True).encode()).hexdigest()[:12] for k, v in plain.items()}


@pytest.mark.parametrize('name', RECORDED)
def test_config_is_the_recorded_experiment(name):
    got, want = key_hashes(load_config(name)), RECORDED[name]
    for key in MENDED.get(name, ()):
        assert got.pop(key) != want[key]
    assert got == {k: v for k, v in want.items() if k not in MENDED.get(name, ())}


def test_every_experiment_of_the_zoo_is_held_against_a_record():
    ours = ('demo/', 'torchvision/', 'transformers/')
    unheld = {n for n in zoo_names() if not n.startswith(ours)} - set(RECORDED)
    assert unheld == {'rtmdet/rtmdet_nano_8xb32-300e_coco-person'}    # known by its weights, which a test below reads


def test_table_of_the_zoo_names_configs_that_are_there():
    listed = re.findall(r'^\| `(\S+)`', (Path(__file__).parents[2] / 'docs' / 'zoo.md').read_text(), re.M)
    assert len(listed) > 200 and set(listed) <= set(zoo_names())


def test_mended_config_evaluates_as_coco_does():
    cfg = load_config('pascal_voc/faster-rcnn_r50_fpn_1x_voc0712-cocofmt')
    assert cfg.val_evaluator.type == 'CocoMetric' and 'eval_mode' not in cfg.val_evaluator


@pytest.mark.parametrize('beginning, name', [
    ('faster_rcnn/faster-rcnn_r50_fpn_1x', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco'),
    ('mask_rcnn/mask-rcnn_r50_fpn_2x', 'mask_rcnn/mask-rcnn_r50_fpn_2x_coco'),
    ('retinanet/retinanet_r101_fpn_2', 'retinanet/retinanet_r101_fpn_2x_coco'),
])
def test_unambiguous_beginning_of_a_name_is_enough(beginning, name):
    assert load_config(beginning) == load_config(name)


def test_ambiguous_beginning_of_a_name_lists_what_it_may_mean():
    with pytest.raises(ConfigError, match='mask-rcnn_r50_fpn_2x_coco'):
        load_config('mask_rcnn/mask-rcnn_r50_fpn')


def test_every_size_is_there():
    sizes = {n.split('_')[1] for n in zoo_names() if n.startswith('rtmdet/')}
    assert sizes >= {'nano', 'tiny', 's', 'm', 'l', 'x', 'tta'}


def test_nano_finds_persons_at_320_with_depthwise_convolutions():
    cfg = load_config('rtmdet/rtmdet_nano')
    model = cfg.model
    assert (model.backbone.deepen_factor, model.backbone.widen_factor) == (0.33, 0.25)
    assert (model.neck.in_channels, model.neck.out_channels, model.neck.num_csp_blocks) == ([64, 128, 256], 64, 1)
    head = model.bbox_head
    assert (head.num_classes, head.in_channels, head.feat_channels) == (1, 64, 64)
    assert head.share_conv is False and head.exp_on_reg is False
    assert all(part.use_depthwise for part in (model.backbone, model.neck, head))
    test = model.test_cfg
    assert (test.score_thr, test.nms.iou_threshold, test.max_per_img, test.nms_pre) == (0.05, 0.6, 100, 1000)
    sizes = {tuple(t[k]) for p in (cfg.test_pipeline, cfg.train_dataloader.dataset.pipeline) for t in p
             for k in ('scale', 'size', 'crop_size', 'img_scale') if k in t}
    assert sizes == {(320, 320), (640, 640)}    # 640: what is enlarged, before a crop of 320
    assert cfg.train_dataloader.dataset.metainfo.classes == cfg.val_dataloader.dataset.metainfo.classes == ('person',)
