"""A small rendered data set, and its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omnidet.demo.shapes import CLASSES, write_dataset


@pytest.fixture(scope='session')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four training and three validation images in COCO's format."""
    root = tmp_path_factory.mktemp('shapes')
    write_dataset(root, dict(train=4, val=3), seed=2, size=96)
    return root


@pytest.fixture
def cfg(shapes: Path) -> dict[str, Any]:
    """What is needed of a config to look at data and results."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]

    def loader(split: str) -> dict[str, Any]:
        return dict(batch_size=2, dataset=dict(
            type='CocoDataset', data_root=str(shapes), ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/'), metainfo=dict(classes=CLASSES), pipeline=load))
    return dict(train_dataloader=loader('train'), test_dataloader=loader('val'),
                test_evaluator=dict(type='CocoMetric', ann_file=str(shapes / 'annotations/val.json'), metric='bbox'))
