"""`omnidet config show`, `check` and `upgrade`."""

from __future__ import annotations

import json
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


def test_several_configs_are_checked_and_one_that_is_not_read_does_not_end_it(config, capsys):
    bad = config.with_name('bad.py')
    bad.write_text(config.read_text() + 'model["neck"]["out_chanels"] = 3\n')
    assert main(['config', 'check', str(config), str(bad), 'rtmdet/rtmdet_tiny']) == 1
    out = capsys.readouterr().out
    assert out.count('ok: ') == 2 and f'1 problem in {bad}\n' in out
    assert main(['config', 'check', str(config), 'rtmdet/rtmdet_tinny', str(config)]) == 2
    out = capsys.readouterr().out
    assert out.count('ok: ') == 2 and "error: there is no config 'rtmdet/rtmdet_tinny'" in out


@pytest.mark.parametrize(('argv', 'message'), [
    ([], 'name a config to check'), (['--zoo', '.', 'a.py'], 'a folder, or single configs'),
    (['a.py', '--json', 'x.json'], '--json belongs to --zoo'), (['--zoo', '/nowhere'], 'is no folder of configs'),
    (['--zoo', '.', '--jobs', '0'], 'at least one process'),
    (['--zoo', '.', '--cfg-options', 'a=1'], '--cfg-options change one config'),
])
def test_what_check_cannot_do_is_said(argv, message, capsys):
    assert main(['config', 'check', *argv]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_is_surveyed_into_tables_and_json(config, tmp_path, capsys):
    zoo = tmp_path / 'zoo'
    (zoo / 'family').mkdir(parents=True)
    (zoo / 'family' / 'good.py').write_text(config.read_text())
    for name in 'ab':
        (zoo / f'{name}.py').write_text("_base_ = 'family/good.py'\n"
                                        "model = dict(neck=dict(type='MyNeck', _delete_=True))\n")
    found = tmp_path / 'found.json'
    assert main(['config', 'check', '--zoo', str(zoo), '--jobs', '1', '--json', str(found)]) == 0
    printed = capsys.readouterr().out
    out = [line.split() for line in printed.splitlines()]
    assert printed.startswith(f'{zoo}\n') and ['family', '1', '1', '1', '1', '0'] in out
    assert ['all', '3', '3', '1', '1', '0'] in out
    assert ['MyNeck', '2', 'a.py'] in out and "there is no neck 'MyNeck'" in printed
    content = json.loads(found.read_text())
    assert (content['configs'], content['parse'], content['check'], content['build']) == (3, 3, 1, 1)
    assert content['missing'] == {'MyNeck': 2}
    assert [f['name'] for f in content['findings']] == ['a.py', 'b.py', 'family/good.py']
    assert 'MyNeck' in content['findings'][0]['error'] and content['findings'][2]['builds'] is True

    (zoo / 'cut.py').write_text('model = dict(')
    assert main(['config', 'check', '--zoo', str(zoo), '--jobs', '1']) == 1
    assert 'was never closed' in capsys.readouterr().out


OLD = """\
model = dict(type='RetinaNet')
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', img_scale=(1333, 800), keep_ratio=True),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])]
data = dict(samples_per_gpu=2, workers_per_gpu=1, train=dict(
    type='CocoDataset', ann_file='data/a.json', img_prefix='data/', pipeline=train_pipeline))
optimizer = dict(type='SGD', lr=0.01)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / 'old.py'
    path.write_text(OLD)
    return path


def test_an_upgraded_config_loads_to_what_the_old_one_is_read_as(old, tmp_path, capsys):
    new = tmp_path / 'new' / 'new.py'
    assert main(['config', 'upgrade', str(old), '-o', str(new), '--cfg-options', 'x=3']) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert ['data.samples_per_gpu', 'train_dataloader.batch_size'] in lines and not err
    assert f'{new}: the whole experiment in one file, {len(load_config(old).changes)} entries changed' in out
    cfg = load_config(new)
    assert cfg == load_config(old, ['x=3']) and cfg.changes == () and cfg.train_dataloader.batch_size == 2
    head = new.read_text().splitlines()[0]
    assert head.startswith('# Written by `omnidet config upgrade` (OmniDet ') and head.endswith(f') from {old}')


def test_an_upgrade_replaces_nothing_unless_forced(old, tmp_path, capsys):
    new = tmp_path / 'new.py'
    new.write_text('mine = 1\n')
    assert main(['config', 'upgrade', str(old), '-o', str(new)]) == 2
    assert f'{new} exists already' in capsys.readouterr().err and new.read_text() == 'mine = 1\n'
    assert main(['config', 'upgrade', str(old), '-o', str(tmp_path)]) == 2
    assert 'is a folder' in capsys.readouterr().err
    assert main(['config', 'upgrade', str(old), '-o', str(new), '--force']) == 0
    assert load_config(new) == load_config(old)


def test_an_upgrade_without_a_file_is_printed_and_its_table_kept_apart(old, tmp_path, capsys):
    assert main(['config', 'upgrade', str(old)]) == 0
    out, err = capsys.readouterr()
    (tmp_path / 'printed.py').write_text(out)
    assert load_config(tmp_path / 'printed.py') == load_config(old) and 'data.samples_per_gpu' in err


def test_there_is_nothing_to_upgrade_in_a_config_of_today(config, tmp_path, capsys):
    assert main(['config', 'upgrade', str(config), '-o', str(tmp_path / 'new.py')]) == 0
    assert 'there is nothing to upgrade' in capsys.readouterr().err and not (tmp_path / 'new.py').exists()


def test_a_folder_is_upgraded_file_by_file(old, config, tmp_path, capsys):
    folder = tmp_path / 'configs'
    (folder / '_base_').mkdir(parents=True)
    (folder / 'sub').mkdir()
    (folder / '_base_' / 'old.py').write_text(OLD)
    (folder / 'sub' / 'a.py').write_text("_base_ = '../_base_/old.py'\nruner = 3\n")
    (folder / 'today.py').write_text(config.read_text())
    (folder / 'bad.py').write_text('x = (')
    assert main(['config', 'upgrade', str(folder), '-o', str(tmp_path / 'out')]) == 1
    out, err = capsys.readouterr()
    assert '1 of 3 configs upgraded, 1 could not be; 1 had the form of MMDetection 3.x' in out and 'bad.py:1' in err
    assert [p.relative_to(tmp_path / 'out').as_posix() for p in (tmp_path / 'out').rglob('*.py')] == ['sub/a.py']
    assert load_config(tmp_path / 'out' / 'sub' / 'a.py') == load_config(folder / 'sub' / 'a.py')
    assert main(['config', 'upgrade', str(folder)]) == 2
    assert 'name one to write to, with -o' in capsys.readouterr().err


def test_commands_say_in_a_line_that_a_config_is_an_old_one(old, capsys):
    assert main(['config', 'show', str(old), '--key', 'train_dataloader.batch_size']) == 0
    out, err = capsys.readouterr()
    assert out == '2\n' and err.startswith(f'{old} is written for MMDetection 2.x') and err.count('\n') == 1
