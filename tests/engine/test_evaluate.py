"""Measuring a checkpoint, and leaving the model as it was."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_parts import TinyDetector, TinyMetric, tiny_cfg

from omnidet.data import build_loader, build_preprocessor
from omnidet.engine import evaluate, save_checkpoint, test, train
from omnidet.errors import CheckpointError, ConfigError

CPU = torch.device('cpu')


def test_every_image_is_measured_once_and_the_model_keeps_its_mode():
    model = TinyDetector(dict(type='TinyHead'))
    loader = build_loader(tiny_cfg()['val_dataloader'], train=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        figures = evaluate(model, loader, [TinyMetric()], build_preprocessor(None), CPU, progress=False)
        assert figures['tiny/count'] == figures['tiny/ids'] == 7
        assert model.training is training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_test_of_a_checkpoint_gives_what_the_validation_gave(tmp_path):
    result = train(tiny_cfg(), work_dir=tmp_path, device='cpu', seed=0, quiet=True)
    got = test(tiny_cfg(), result['checkpoint'], work_dir=tmp_path, device='cpu', quiet=True)
    assert got['metrics'] == pytest.approx(result['metrics'])
    assert got['images'] == 7 and got['report'] == 'a tiny report'
    assert json.loads((tmp_path / 'test.json').read_text())['metrics'] == got['metrics']


def test_a_test_of_other_classes_or_of_nothing_is_refused(tmp_path):
    save_checkpoint(tmp_path / 'a.pth', {'state_dict': TinyDetector(dict(type='TinyHead')).state_dict()})
    cfg = tiny_cfg()
    cfg['val_dataloader']['dataset']['classes'] = ('a', 'b')
    with pytest.raises(ConfigError, match=r'num_classes is 3, but val_dataloader\.dataset has 2'):
        test(cfg, tmp_path / 'a.pth', device='cpu', quiet=True)
    with pytest.raises(ConfigError, match='neither test_dataloader nor val_dataloader'):
        test(tiny_cfg(val_dataloader=None, val_evaluator=None), tmp_path / 'a.pth', device='cpu', quiet=True)
    with pytest.raises(CheckpointError):
        test(tiny_cfg(), tmp_path / 'none.pth', device='cpu', quiet=True)
