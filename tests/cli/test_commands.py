"""What the commands do with their arguments before the rooms behind them take over."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnidet.cli import main, parse
from omnidet.cli.arguments import import_user_module, read_config
from omnidet.cli.convert import describe
from omnidet.cli.train import apply_switches
from omnidet.config import load_config
from omnidet.data import build_dataset
from omnidet.errors import ConfigError, OmniDetError


def test_amp_is_written_as_a_user_would_write_it():
    cfg = dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD')))
    apply_switches(cfg, amp=True)    # type: ignore[arg-type]
    assert cfg['optim_wrapper'] == dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='SGD'))


def test_auto_scale_lr_needs_the_batch_size_it_scales_from():
    cfg: dict = dict(auto_scale_lr=dict(enable=False, base_batch_size=16))
    apply_switches(cfg, auto_scale_lr=True)    # type: ignore[arg-type]
    assert cfg['auto_scale_lr'] == dict(enable=True, base_batch_size=16)
    with pytest.raises(ConfigError, match='base_batch_size=16'):
        apply_switches({}, auto_scale_lr=True)    # type: ignore[arg-type]


def test_options_of_several_flags_add_up_and_reach_the_config(tmp_path):
    (tmp_path / 'a.py').write_text('x = 1\ny = dict(z=2)\n')
    args = parse(['train', str(tmp_path / 'a.py'), '--cfg-options', 'x=5', 'y.z=[1,2]', '--cfg-options', 'w=dict(v=3)'])
    cfg = read_config(args)
    assert (cfg.x, cfg.y.z, cfg.w.v) == (5, [1, 2], 3)


@pytest.mark.parametrize(('argv', 'resume'), [([], False), (['--resume'], True), (['--resume', 'a.pth'], 'a.pth')])
def test_resume_takes_a_checkpoint_or_finds_the_last(argv, resume):
    assert parse(['train', 'a.py', *argv]).resume == resume


def test_modules_of_the_user_s_are_imported_by_name_and_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    (tmp_path / 'my_omnidet_parts.py').write_text('value = 3\n')
    import_user_module(str(tmp_path / 'my_omnidet_parts.py'))
    assert sys.modules['my_omnidet_parts'].value == 3    # type: ignore[attr-defined]
    with pytest.raises(OmniDetError, match='there is no such module'):
        import_user_module('no_such_omnidet_parts')
    (tmp_path / 'my_needy_parts.py').write_text('import no_such_package\n')
    with pytest.raises(OmniDetError, match='imports no_such_package, which is not installed'):
        import_user_module(str(tmp_path / 'my_needy_parts.py'))


def test_a_conversion_is_summed_up_with_what_was_skipped_and_why():
    text = describe(dict(images=3, boxes=7, skipped=['a.jpg: a box without area']))
    assert text == '3 images, 7 boxes\n  skipped: a.jpg: a box without area'


def test_a_converted_set_is_read_with_the_config_lines_that_convert_prints(tmp_path, capsys):
    for folder in ('images/val', 'labels/val'):
        (tmp_path / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'images/val/a.png'), np.zeros((50, 100, 3), np.uint8))
    (tmp_path / 'labels/val/a.txt').write_text('1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0 0\n')
    out = tmp_path / 'val.json'
    assert main(['convert', 'yolo', str(tmp_path), '--split', 'val', '--to', 'coco', '--out', str(out),
                 '--classes', 'cat', 'dog']) == 0
    printed = capsys.readouterr().out
    assert '1 images, 1 boxes, 2 classes' in printed
    assert 'boxes without area: 1 (a.png' in printed

    lines = textwrap.dedent(printed.partition('in a config:\n')[2])
    (tmp_path / 'config.py').write_text(lines)
    dataset = load_config(tmp_path / 'config.py').dataset
    built = build_dataset(dict(type='CocoDataset', pipeline=[], **dataset), test_mode=True)
    assert built.classes == ('cat', 'dog')
    record = built.load(0)
    assert Path(record['img_path']).is_file()
    assert record['instances'][0]['bbox'] == pytest.approx([40, 15, 60, 35])
    assert record['instances'][0]['bbox_label'] == 1


def test_a_zoo_config_on_other_classes_stops_before_training_with_the_lines_to_write(tmp_path, capsys):
    (tmp_path / 'annotations').mkdir()
    for split in ('train', 'val'):
        (tmp_path / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(
            dict(images=[], annotations=[], categories=[dict(id=1, name='helmet')])))
    assert main(['train', 'rtmdet/rtmdet_tiny', '--data-root', str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "classes = ('helmet',)" in err
    assert 'model = dict(bbox_head=dict(num_classes=1))' in err
    assert "_base_ = 'omnidet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'" in err
