"""`omnidet config show` and `omnidet config check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnidet.cli import main
from omnidet.config import load_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / 'exp.py'
    path.write_text("_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'\n"
                    'model = dict(neck=dict(num_csp_blocks=2))\n')
    return path


def test_show_prints_a_file_that_loads_again(config, capsys, tmp_path):
    assert main(['config', 'show', str(config), '--cfg-options', 'base_lr=1']) == 0
    shown = tmp_path / 'shown.py'
    shown.write_text(capsys.readouterr().out)
    cfg = load_config(shown)
    assert cfg == load_config(config, ['base_lr=1']) and cfg.base_lr == 1


def test_show_prints_one_part_with_its_origins(config, capsys):
    assert main(['config', 'show', str(config), '--key', 'model.neck', '--origin']) == 0
    out = capsys.readouterr().out
    assert f'num_csp_blocks=2,  # {config}:2\n' in out and 'rtmdet_tiny_8xb32-300e_coco.py:' in out
    assert main(['config', 'show', str(config), '--key', 'train_pipeline.0.type']) == 0
    assert capsys.readouterr().out == "'LoadImageFromFile'\n"


@pytest.mark.parametrize(('key', 'message'), [
    ('model.nck', "model has no 'nck'; did you mean 'neck'?"), ('img_scales.9', 'img_scales is a list of 3'),
    ('base_lr.x', 'there is nothing in it'),
])
def test_show_says_what_is_there_instead(config, capsys, key, message):
    assert main(['config', 'show', str(config), '--key', key]) == 2
    assert message in capsys.readouterr().err


def test_check_accepts_a_config_in_order(config, capsys):
    assert main(['config', 'check', str(config)]) == 0
    assert capsys.readouterr().out.startswith(f'ok: {config}, ')


def test_check_reports_where_and_what(config, capsys):
    config.write_text(config.read_text() + 'model["neck"]["out_chanels"] = 3\n')
    assert main(['config', 'check', str(config)]) == 1
    assert capsys.readouterr().out == (
        f"{config}:3\n  model.neck.out_chanels: CSPNeXtPAFPN has no such argument; did you mean 'out_channels'?\n"
        f'1 problem in {config}\n')


def test_a_missing_file_is_an_error_without_a_traceback(capsys):
    assert main(['config', 'show', 'rtmdet/rtmdet_tinny']) == 2
    err = capsys.readouterr().err
    assert 'rtmdet/rtmdet_tiny_8xb32-300e_coco' in err and 'Traceback' not in err
