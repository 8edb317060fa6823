"""Hostile and damaged files given to commands: exit status 2, one message, no traceback, and nothing else happens."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from omnidet.cli import main


class Touch:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):    # type: ignore[no-untyped-def]
        return os.mkdir, (str(self.path),)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """{what is wrong: a file}; those that would run something would make the folder `canary`."""
    weights = {'w': torch.ones(3)}
    torch.save({'state_dict': weights, 'x': Touch(tmp_path / 'canary')}, tmp_path / 'evil.pth')
    torch.save({'state_dict': weights, 'x': Touch(tmp_path / 'canary')}, tmp_path / 'evil_old.pth',
               _use_new_zipfile_serialization=False)
    torch.save({'state_dict': weights}, tmp_path / 'whole.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'whole.pth').read_bytes()[:-40])
    (tmp_path / 'text.pth').write_text('hello')
    (tmp_path / 'empty.pth').write_bytes(b'')
    (tmp_path / 'bare.pth').write_bytes(pickle.dumps(Touch(tmp_path / 'canary')))
    (tmp_path / 'a.safetensors').write_bytes(b'\xff' * 64)
    torch.save([1, 2], tmp_path / 'list.pth')
    torch.save({'state_dict': {'\x1b[2J\u202e': 'x'}}, tmp_path / 'escapes.pth')
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as z:
        z.writestr('a/data.pkl', bytes(20_000_000))
    os.mkfifo(tmp_path / 'pipe.pth')
    (tmp_path / 'folder.pth').mkdir()
    names = ('evil', 'evil_old', 'cut', 'text', 'empty', 'bare', 'list', 'escapes', 'bomb', 'pipe', 'folder', 'none')
    return {n: tmp_path / f'{n}.pth' for n in names} | {'safetensors': tmp_path / 'a.safetensors'}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A config whose data are two images, which would train."""
    data = tmp_path / 'data'
    data.mkdir()
    images = [dict(id=i, file_name=f'{i}.png', width=64, height=64) for i in range(2)]
    for image in images:
        cv2.imwrite(str(data / image['file_name']), np.zeros((64, 64, 3), np.uint8))
    names = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
    (data / 'a.json').write_text(json.dumps(dict(
        images=images, categories=[dict(id=i + 1, name=n) for i, n in enumerate(names)],
        annotations=[dict(id=i, image_id=i, category_id=1, bbox=[8, 8, 32, 32], area=1024, iscrowd=0)
                     for i in range(2)])))
    loader = ('dict(batch_size=1, num_workers=0, persistent_workers=False, '
              f'dataset=dict(data_root="{data}", ann_file="a.json", data_prefix=dict(img="")))')
    (tmp_path / 'exp.py').write_text(
        "_base_ = 'omnidet::demo/rtmdet_shapes.py'\n"
        f'train_dataloader = {loader}\nval_dataloader = {loader}\ntest_dataloader = {loader}\n'
        f'val_evaluator = dict(ann_file="{data}/a.json")\ntest_evaluator = val_evaluator\n')
    return tmp_path / 'exp.py'


def refused(argv: list[str], capsys: pytest.CaptureFixture[str], name: str) -> str:
    assert main(argv) == 2, argv
    out, err = capsys.readouterr()
    assert name in err and 'error: ' in err and 'Traceback' not in err + out and 'bug in OmniDet' not in err
    assert '\x1b' not in err and '\u202e' not in err and len(err) < 3000
    return err


def test_checkpoint_commands_refuse_every_file_by_name(files, tmp_path, capsys):
    before = sorted(p.name for p in tmp_path.iterdir())
    for what, path in files.items():
        for argv in (['convert', str(path), str(tmp_path / 'out.pth')],
                     ['publish', str(path), str(tmp_path / 'out.pth')]):
            refused(['checkpoint', *argv], capsys, path.name)
        if what in ('evil', 'evil_old', 'bare'):    # inspected all the same
            status = main(['checkpoint', 'inspect', str(path)])
            out = capsys.readouterr()
            assert status == (2 if what == 'bare' else 0) and 'Traceback' not in out.out + out.err
            assert what == 'bare' or 'mkdir' in out.out
        else:
            refused(['checkpoint', 'inspect', str(path)], capsys, path.name)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_test_and_train_refuse_every_checkpoint_by_name(files, experiment, tmp_path, capsys):
    work = ['--work-dir', str(tmp_path / 'work'), '--device', 'cpu']
    for path in files.values():
        refused(['test', str(experiment), str(path), *work], capsys, path.name)
    for what in ('evil', 'cut', 'pipe', 'safetensors', 'none'):
        path = files[what]
        refused(['train', str(experiment), '--load-from', str(path), *work], capsys, path.name)
        refused(['train', str(experiment), '--resume', str(path), *work], capsys, path.name)
    assert not (tmp_path / 'canary').exists()


def test_inspect_shows_no_characters_that_steer_a_terminal(tmp_path, capsys):
    torch.save({'state_dict': {'\x1b]0;title\x07.w': torch.ones(1)},
                'meta': {'CLASSES': ('\x1b[2J', '\u202e'), 'exp_name': '\x1b[31m'}},
               tmp_path / 'a.pth')
    assert main(['checkpoint', 'inspect', str(tmp_path / 'a.pth')]) == 0
    out = capsys.readouterr().out
    assert '\x1b' not in out and '\u202e' not in out and '\\x1b[2J' in out


CONFIGS = {
    'run.py': "import os\nx = os.mkdir('canary')\n", 'cut.py': 'model = dict(', 'circle.py': "_base_ = './circle.py'",
    'bomb.py': 'x = 9 ** 9 ** 9', 'deep.py': 'x = ' + 'dict(a=' * 10_000 + '1' + ')' * 10_000,
    'passwd.py': "_base_ = '/etc/passwd'",
    'bytes.py': bytes(range(256)), 'run.yaml': 'x: !!python/object/apply:os.mkdir [canary]', 'cut.json': '{"a": ',
    'escapes.py': "model = dict(type='\x1b[2J', x=__import__)",
}


@pytest.mark.parametrize('name', CONFIGS)
def test_every_command_refuses_a_hostile_config_by_name(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    text = CONFIGS[name]
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for argv in (['config', 'show', name], ['config', 'check', name], ['config', 'upgrade', name, '-o', 'out.py'],
                 ['train', name],
                 ['test', name, 'a.pth'], ['predict', name, 'a.pth', '.']):
        refused(argv, capsys, name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_show_and_check_write_out_what_would_steer_a_terminal(tmp_path, capsys):
    path = tmp_path / 'a.py'
    path.write_text("model = dict(type='\\x1b[2J', **{'\\x1b[31m\\ud800': 1})\n")
    assert main(['config', 'show', str(path)]) == 0
    assert main(['config', 'check', str(path)]) == 1
    out = capsys.readouterr().out
    assert '\x1b' not in out and '\\x1b[2J' in out


WRONG = {'train_dataloader': 3, 'train_cfg': [1], 'optim_wrapper': 'x', 'param_scheduler': {'type': 3},
         'default_hooks': [3],
         'custom_hooks': {'a': 1}, 'model': [1], 'train_dataloader.dataset': 'x', 'train_dataloader.batch_size': 'x',
         'train_dataloader.dataset.pipeline': 3, 'train_dataloader.sampler': 3, 'optim_wrapper.optimizer': None,
         'model.backbone': 3, 'model.data_preprocessor': 'x', 'val_evaluator': 3, 'train_cfg.max_epochs': 'x',
         'custom_imports': 3, 'default_hooks.checkpoint': 'x', 'val_dataloader': 'x', 'work_dir': 3, 'load_from': 3,
         'resume': 'x'}


@pytest.mark.parametrize('key', WRONG)
def test_train_refuses_wrong_types_before_it_begins(experiment, tmp_path, capsys, key):
    path = tmp_path / 'wrong.py'
    parts = key.split('.')
    value = repr(WRONG[key])
    if isinstance(WRONG[key], dict):
        value = f'dict(_delete_=True, **{value})'
    target = f'_base_.{".".join(parts[:-1])}[{parts[-1]!r}]' if len(parts) > 1 else f'_base_[{key!r}]'
    path.write_text(f"_base_ = './exp.py'\n{target} = {value}\n")
    status = main(['train', str(path), '--work-dir', str(tmp_path / 'work'), '--device', 'cpu', '--cfg-options',
                   'train_cfg.max_epochs=0'] if key in ('work_dir', 'resume') else
                  ['train', str(path), '--work-dir', str(tmp_path / 'work'), '--device', 'cpu'])
    err = capsys.readouterr().err
    assert 'Traceback' not in err and 'bug in OmniDet' not in err, err
    assert status == 2 or key in ('work_dir', 'resume')


def limited() -> None:
    """A gigabyte of data and ten seconds of work: what the process gets."""
    resource.setrlimit(resource.RLIMIT_DATA, (3 * 10 ** 9, 3 * 10 ** 9))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


@pytest.mark.parametrize('argv',
                         [['checkpoint', 'inspect', 'evil.pth'], ['checkpoint', 'publish', 'bomb.pth', 'out.pth'],
                                  ['config', 'show', 'laughs.yaml']])
def test_a_process_with_little_memory_and_time_ends_well(files, tmp_path, argv):
    (tmp_path / 'laughs.yaml').write_text('a: &a [1]\n' + ''.join(
        f'{n}: &{n} [{", ".join([f"*{o}"] * 10)}]\n' for o, n in zip('abcdefgh', 'bcdefghi', strict=True)))
    done = subprocess.run([sys.executable, '-m', 'omnidet', *argv], cwd=tmp_path, capture_output=True, text=True,
                          timeout=120, preexec_fn=limited, check=False)
    assert done.returncode == (0 if argv[1] == 'inspect' else 2), done.stderr
    assert 'Traceback' not in done.stderr and argv[2] in done.stderr + done.stdout
    assert not (tmp_path / 'canary').exists()
