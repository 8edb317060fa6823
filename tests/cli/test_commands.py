"""What the commands do with their arguments before the rooms behind them take over."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from omnidet.cli import main, parse
from omnidet.cli.arguments import import_user_module, read_config
from omnidet.cli.convert import describe
from omnidet.cli.train import apply_switches
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


def test_convert_hands_the_folder_to_the_reader_of_its_format(monkeypatch, capsys):
    seen = []

    def read(*args, **kwargs):
        seen.append((args, kwargs))
        return dict(images=1)
    fake = types.SimpleNamespace(voc_to_coco=None, via_to_coco=None, yolo_to_coco=read)
    import omnidet.data
    monkeypatch.setitem(sys.modules, 'omnidet.data.convert', fake)    # type: ignore[misc]
    monkeypatch.setattr(omnidet.data, 'convert', fake, raising=False)
    argv = ['convert', 'yolo', 'my/yolo', '--split', 'val', '--to', 'coco', '--out', 'val.json', '--classes', 'a']
    assert main(argv) == 0
    assert seen == [((Path('my/yolo'), 'val', Path('val.json')), dict(classes=['a']))]
    assert capsys.readouterr().out == 'val.json: 1 images\n'


def test_a_zoo_config_on_other_classes_stops_before_training_with_the_lines_to_write(tmp_path, capsys):
    (tmp_path / 'annotations').mkdir()
    for split in ('train', 'val'):
        (tmp_path / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(
            dict(images=[], annotations=[], categories=[dict(id=1, name='helmet')])))
    assert main(['train', 'rtmdet/rtmdet_tiny', '--data-root', str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "classes = ('helmet',)" in err
    assert 'model = dict(bbox_head=dict(num_classes=1))' in err
    assert 'rtmdet_tiny_8xb32-300e_coco' in err
