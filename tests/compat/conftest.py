"""`clean`: what a test imports and registers is forgotten after it; `shapes`: a tiny data set; `config`: a tiny run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omnidet.compat import user_code
from omnidet.compat.finder import PACKAGES, AliasFinder
from omnidet.demo.shapes import write_dataset
from omnidet.registry import KINDS

THEIRS = Path(__file__).parent / 'theirs'

CONFIG = """
classes = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[120] * 3, std=[60] * 3, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=8, num_stages=4, out_indices=(1, 2, 3), norm_eval=False),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=16, num_outs=4),
    bbox_head=dict(
        type='RetinaHead', num_classes=6, in_channels=16, stacked_convs=1, feat_channels=16,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
                              strides=[8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
                   allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=10))
data = dict(type='CocoDataset', metainfo=dict(classes=classes), pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    ann_file='data/annotations/train.json', data_prefix=dict(img='data/train'), **data))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    ann_file='data/annotations/val.json', data_prefix=dict(img='data/val'), **data))
val_evaluator = dict(type='CocoMetric', ann_file='data/annotations/val.json')
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001, momentum=0.9))
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, 'meta_path', [f for f in sys.meta_path if not isinstance(f, AliasFinder)])
    for name in [n for n in sys.modules if n.partition('.')[0] in PACKAGES]:    # that other tests have left
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setattr(user_code, '_imported', [])
    monkeypatch.setattr(user_code, '_warned', [])
    modules = set(sys.modules)
    for kind in KINDS:
        monkeypatch.setattr(kind, '_classes', kind.module_dict)    # ours alone, all imported
    yield
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], '__file__', None) or ''
        if name.partition('.')[0] in PACKAGES or Path(file).name in {p.name for p in THEIRS.glob('*.py')}:
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the users' files and ten pictures of shapes."""
    for file in THEIRS.glob('*.py'):
        shutil.copy(file, tmp_path)
    write_dataset(tmp_path / 'data', {'train': 8, 'val': 2}, seed=0, size=64)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., str]:
    """A config in that directory: the tiny run, and what is appended."""
    def write(more: str = '', name: str = 'cfg.py') -> str:
        (folder / name).write_text(CONFIG + more)
        return name
    return write
