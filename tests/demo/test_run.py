"""The demo from end to end, in a short form, and how its recipe is shortened."""

from __future__ import annotations

import json

import cv2
import pytest

from omnidet.cli import main
from omnidet.config import load_config
from omnidet.demo.run import CONFIG, IMAGES, run_demo, set_epochs
from omnidet.demo.shapes import CLASSES


def test_the_shipped_recipe_knows_the_classes_that_are_rendered():
    cfg = load_config(CONFIG)
    for split in ('train', 'val', 'test'):
        assert tuple(cfg[f'{split}_dataloader'].dataset.metainfo.classes) == CLASSES
    assert cfg.model.bbox_head.num_classes == len(CLASSES)
    assert 'checkpoint' not in (cfg.model.backbone.init_cfg or {})    # nothing to download


@pytest.mark.parametrize('epochs', [1, 2, 7, 40])
def test_a_recipe_of_another_length_anneals_to_its_end_and_is_scored_there(epochs):
    cfg = load_config(CONFIG)
    set_epochs(cfg, epochs)
    cosine = next(s for s in cfg.param_scheduler if s.type == 'CosineAnnealingLR')
    assert cosine.end == epochs and cosine.begin + cosine.T_max == epochs
    assert cfg.train_cfg.max_epochs == cfg.default_hooks.checkpoint.interval == epochs
    assert 1 <= cfg.train_cfg.val_interval <= epochs


@pytest.mark.slow
def test_a_short_demo_learns_and_leaves_its_pictures(tmp_path, capsys):
    outcome = run_demo(tmp_path, epochs=8, device='cpu', images={'train': 64, 'val': 8})
    assert outcome['iterations'] == 64
    lines = [json.loads(line) for line in next((tmp_path / 'run').glob('*.jsonl')).read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert losses[-1] < 0.8 * max(losses)    # it rises first, for at the beginning hardly a prior answers for a shape
    sheet = cv2.imread(str(tmp_path / 'predictions.jpg'))
    assert sheet is not None and sheet.shape[1] > 1500    # six pictures of 320 pixels beside each other
    assert (tmp_path / 'run' / 'curves.png').exists()
    # what is printed as the next step works
    printed = capsys.readouterr().out
    command = next(line for line in printed.splitlines() if line.strip().startswith('omnidet predict')).split()
    assert main([*command[1:], '--out', str(tmp_path / 'found')]) == 0
    assert len(list((tmp_path / 'found' / 'pictures').iterdir())) == 8


@pytest.mark.slow
def test_the_whole_demo_finds_nine_of_ten_shapes(tmp_path):
    assert IMAGES['val'] >= 50
    outcome = run_demo(tmp_path, device='cpu')
    assert outcome['metrics']['coco/bbox_mAP_50'] >= 0.9
