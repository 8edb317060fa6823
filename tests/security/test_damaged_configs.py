"""Config files that are damaged anywhere, lie in wrong places, or are of wrong types: a message each time, and soon."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from omnidet.config import Config, dump, load_config
from omnidet.config.check import problems
from omnidet.config.nodes import walk
from omnidet.errors import ConfigError
from omnidet.models import build_model

PYTHON = """\
_base_ = []
a = dict(type='A', x=[1, (2, 3)], y={'k': None}, z=f'{1 + 1:>3}', **dict(w=0x10))
b = [i * 2 for i in range(3) if i]
a.update(q=3)
a['x'][0] = 'a b'.split()
for k, v in a.items():
    c = '%s' % v
c += '{} {{ fileDirname }}'.format(1)
d = {**a, 'e': -b[0] if b else not b}
del b
"""
JSON = json.dumps({'_base_': [], 'a': {'b': [1, 2.5, None, True, 'x'], 'c': {'d': '\u00e9'}}, 'f': '{{ fileDirname }}'})
YAML = """\
a: &x {b: 1, c: [1, 2]}
d:
  <<: *x
  e: !!python/tuple [1, 0x10]
f: "{{ fileDirname }}"
g: 2.5
"""
TEXTS = {'a.py': PYTHON, 'a.json': JSON, 'a.yaml': YAML}
PIECES = [b'(', b')', b'[', b'{', b'}', b'**', b'{{', b'}}', b'_base_', b'.__class__', b'\x00', b'\xff', b'9**9**9',
          b'lambda:0',
          b'=', b':', b',', b'import os', b'*', b'"', b"'", b'\\', b'\n', b'\t', b'%', b'None', b'dict(', b'&a', b'*a',
          b'!!python/name:os.system ', b'<<: ', b'f"{', b'yield ', b'await ', b':=', b'\xef\xbb\xbf',
          b'# coding: utf-7\n', b'0x', b'1e999']


def ends_well(path: Path) -> None:
    """`path` is read to something that can be written down, or refused with its name."""
    start = time.process_time()
    try:
        cfg = load_config(path)
    except ConfigError as e:
        assert path.name in str(e) and len(str(e)) < 3000
        return
    finally:
        assert time.process_time() - start < 5
    assert type(cfg) is Config
    try:
        dump(cfg)
    except ConfigError as e:
        assert path.name in str(e) and 'cannot be written' in str(e)


@pytest.mark.parametrize('name', TEXTS)
def test_a_config_that_is_cut_anywhere_is_read_or_refused_by_name(tmp_path, name):
    data = TEXTS[name].encode()
    path = tmp_path / name
    for size in range(len(data)):
        path.write_bytes(data[:size])
        ends_well(path)


@pytest.mark.parametrize('name', TEXTS)
def test_a_config_with_changed_bytes_is_read_or_refused_by_name(tmp_path, name):
    path, chance = tmp_path / name, random.Random(1)
    for _ in range(500):
        data = bytearray(TEXTS[name].encode())
        for _ in range(chance.randint(1, 3)):
            at, kind = chance.randrange(len(data)), chance.random()
            if kind < 0.6:
                data[at:at + chance.randint(0, 3)] = chance.choice(PIECES)
            elif kind < 0.8:
                data[at] = chance.randrange(256)
            else:
                other = chance.randrange(len(data))
                data[at:at] = data[other:other + 20]
        path.write_bytes(data)
        ends_well(path)


REFUSED = {
    'more than a file holds.json': '{"a": ' + '9' * 4000 + '}', 'huge.yaml': 'a: 0x' + 'f' * 100_000,
    'binary.yaml': 'a: 0b' + '1' * 100_000, 'sixty.yaml': 'a: 1' + ':59' * 5000,
    'fraction.yaml': 'a: 1' + ':59' * 5000 + '.5',
    'number.py': "a = int('f' * 4000, 16)", 'colliding.yaml': 'a: !!set {' + ','.join(
        str(i * (2 ** 61 - 1)) for i in range(2000)) + '}',
    'name.yaml': 'a: !!python/name:os.system', 'module.yaml': 'a: !!python/module:os',
    'new.yaml': 'a: !!python/object/new:os.mkdir [canary]', 'apply.yaml': 'a: !!python/object/apply:os.mkdir [canary]',
    'object.yaml': 'a: !!python/object:os.x {}',
    'inside.yaml': 'a: !!python/tuple [!!python/object/apply:os.mkdir [canary]]',
    'bytes.yaml': 'a: !!binary aGVsbG8=', 'moment.yaml': 'a: 2001-12-14t21:59:43.10-05:00',
    'float.yaml': 'a: !!float x',
    'int.yaml': 'a: !!int x', 'map.yaml': 'a: !!map [1]', 'seq.yaml': 'a: !!seq {a: 1}', 'tag.yaml': 'a: !x 3',
    'directive.yaml': '%YAML 9.9\n---\na: 1', 'documents.yaml': 'a: 1\n---\nb: 2', 'key.yaml': '? {a: 1}\n: 2',
    'merge.yaml': '<<: 3', 'tuple in itself.yaml': 'a: &a !!python/tuple [*a]',
    'key in itself.yaml': 'a: &a\n  ? *a\n  : 1',
    'utf-16.json': '{"a": 1}'.encode('utf-16'), 'utf-32.py': 'a = 1'.encode('utf-32'), 'control.json': '{"a": "\x01"}',
    'utf-7.py': b'# coding: utf-7\na = +AGE-', 'hex.py': b'# coding: hex\n613d31',
    'undefined.py': b'# coding: undefined\na = 1',
    'both.py': b'\xef\xbb\xbf# coding: latin-1\na = 1',
    'surrogate.py': "a = '{\ud800}'".encode('utf-8', 'surrogatepass'),
    'decorated.py': "x = @open\ndef f(): pass", 'type.py': 'match 1:\n    case 1:\n        x = 1',
    'star.py': 'from os import *\nx = mkdir("canary")',
    'metaclass.py': 'class A(metaclass=open("canary", "w")): pass\nx = A()',
    'default.py': 'def f(x=open("canary", "w")): pass\nx = f()',
    'annotation.py': 'x: open("canary", "w") = y', 'condition.py': 'if open("canary", "w"):\n    pass',
    'template.py': 'x = {{ __import__("os").mkdir("canary") }}', 'template of a template.py': 'x = {{ ().__class__ }}',
    'environment.py': "x = {{$NOWHERE:__import__('os').mkdir('canary')}}", 'unset.py': "x = '{{$NOWHERE_AT_ALL}}'",
    'environment.json': '{"a": "{{$NOWHERE_AT_ALL}}"}', 'inherited.json': '{"a": "{{_base_.a}}"}',
    'inherited.yaml': 'a: {{_base_.items}}',
    'of a base.json': '{"_base_": "x.json", "a": "{{_base_.__class__}}"}',
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_a_document_may_not_hold_is_refused_and_does_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.json').write_text('{"a": 1}')
    data = REFUSED[name]
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(ConfigError, match=name):
        load_config(tmp_path / name)
    assert not (tmp_path / 'canary').exists()


def test_what_is_only_named_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = "open('canary', 'w')"
    (tmp_path / 'a.py').write_text(
        f'import os\n@{call}\ndef f(x={call}) -> {call}:\n    {call}\n@{call}\nclass A({call}):\n    y = {call}\n'
        f'if __name__ == "__main__":\n    {call}\nx: {call} = 1\nwith read_base({call}):\n    pass\n'
        f'custom_imports = dict(imports=["os", "canary"])\ny = os.mkdir\nz = "{{{{$NOWHERE:{call}}}}}"\n')
    cfg = load_config(tmp_path / 'a.py')
    assert (cfg.x, cfg.y, cfg.z) == (1, 'mkdir', call) and [p.name for p in tmp_path.iterdir()] == ['a.py']


def test_merges_of_merges_of_yaml_are_bounded(tmp_path):
    """Whether PyYAML takes each key once (from 6.0.4 on) or as often as it is named, which is refused."""
    lines = [f'{new}: &{new} {{<<: [{", ".join([f"*{old}"] * 20)}]}}\n'
             for old, new in zip('abcdefgh', 'bcdefghi', strict=True)]
    (tmp_path / 'a.yaml').write_text('a: &a {x: 1}\n' + ''.join(lines))
    start = time.process_time()
    try:
        assert load_config(tmp_path / 'a.yaml').i == {'x': 1}
    except ConfigError as e:
        assert 'a.yaml' in str(e)
    assert time.process_time() - start < 5


BASES = ['/etc/passwd', '/dev/zero', '/dev/stdin', '/proc/self/environ', '/etc', '.', '..', '', ' ', '~',
         '~root/x.py', '../' * 60 + 'etc/passwd',
         'https://example.invalid/a.py', 'file:///etc/passwd', 'ftp://x/a.py', 'mmdet::../../../../etc/passwd',
         'mmdet::', 'mmdet::*',
         'nowhere::a.py', 'fifo.py', 'folder.py', 'loop.py', 'a' * 5000, 'a/' * 2500 + 'x.py', 'C:\\x.py',
         '\\\\host\\share\\x.py',
         'a\nb.py', '{{ fileDirname }}', '$HOME/x.py', '*.py', 'text.txt']


@pytest.mark.parametrize('base', BASES)
@pytest.mark.parametrize('form', ['_base_ = {0!r}', '_base_ = [{0!r}]', '{{"_base_": {1}}}', '_base_: [{1}]'])
def test_what_is_no_config_is_not_inherited_from(tmp_path, base, form):
    os.mkfifo(tmp_path / 'fifo.py')
    (tmp_path / 'folder.py').mkdir()
    (tmp_path / 'loop.py').symlink_to('loop.py')
    (tmp_path / 'text.txt').write_text('a = 1')
    path = tmp_path / ('child.py' if '=' in form else 'child.json' if form[0] == '{' else 'child.yaml')
    path.write_text(form.format(base, json.dumps(base)))
    with pytest.raises(ConfigError, match=r'child\.'):
        load_config(path)


@pytest.mark.parametrize('module',
                         ['os', 'os.path', 'subprocess', '.', '..', '.nowhere', '.' * 40 + 'x', 'mmdet',
                          'mmdet.configs',
                                    'mmdet.configs.rtmdet', 'mmdet.configs._base_', '.child', 'sys', 'omnidet'])
def test_modules_are_not_inherited_from(tmp_path, module):
    path = tmp_path / 'child.py'
    path.write_text(f'with read_base():\n    from {module} import *\n')
    with pytest.raises(ConfigError, match=r'child\.py'):
        load_config(path)


@pytest.mark.parametrize('length', [1, 2, 3])
@pytest.mark.parametrize('linked', [False, True])
@pytest.mark.parametrize('suffix', ['py', 'json', 'yaml'])
def test_circles_are_refused(tmp_path, length, linked, suffix):
    """a inherits from b inherits from ... a; with links, each names the next by another name and folder."""
    forms = {'py': "_base_ = '{}'", 'json': '{{"_base_": "{}"}}', 'yaml': '_base_: {}'}
    (tmp_path / 'links').mkdir()
    for i in range(length):
        following = f'f{(i + 1) % length}.{suffix}'
        if linked:
            (tmp_path / 'links' / f'to_{following}').symlink_to(tmp_path / following)
            following = str(tmp_path / 'links' / f'to_{following}')
        (tmp_path / f'f{i}.{suffix}').write_text(forms[suffix].format(following))
    with pytest.raises(ConfigError, match='inherits from itself'):
        load_config(tmp_path / f'f0.{suffix}')


def test_files_that_nest_deeper_together_than_each_are_refused(tmp_path):
    (tmp_path / 'f0.py').write_text('x = dict(' + 'a=dict(' * 70 + ')' * 70 + ')')
    deeper = '.a' * 69 + '.a = dict(' + 'a=dict(' * 70 + ')' * 70 + ')'
    (tmp_path / 'f1.py').write_text(f"_base_ = 'f0.py'\n_base_.x{deeper}")
    with pytest.raises(ConfigError, match=r'f1\.py.*(deep|nested)'):
        load_config(tmp_path / 'f1.py')
    with pytest.raises(ConfigError, match=r'f0\.py.*deep'):
        load_config(tmp_path / 'f0.py', ['x.' + 'a.' * 60 + 'a=dict(' + 'a=dict(' * 60 + ')' * 60 + ')'])


OPTIONS = ['lr=[__import__("os").mkdir("canary")]', 'lr=[open("canary","w")]', 'lr=[().__class__]',
           'lr=dict(a="".__class__)',
           'lr=[9**9**9]', 'lr=["a"*10**9]', 'lr=[x for x in range(10**9)]', 'lr=[lambda:0]', 'lr=' + '[' * 5000,
           'lr=(' + '(' * 300 + ')' * 300,
           '.'.join(['a'] * 5000) + '=1', '.'.join(['a'] * 150) + '=1', 'lr=' + '1,' * 50_000, 'lr=' + 'a,' * 50_000,
           'lr=b"a"', 'lr=1j', 'lr=...', 'lr={[1]:2}', 'lr=[await x]', 'lr=[x:=1]', 'lr=0x' + 'f' * 5000, 'lr=(',
           'lr=dict(1)', 'lr=dict(a)',
           'lr=["{0.__class__}".format(1)]', 'lr=[a()]', 'lr=[a.b]', 'lr={{$HOME}}', '_base_=x', '_base_.a=3', '=',
           'lr', '', 'lr..x=1',
           'lr.__class__=3', 'model.stages.99999999999999999999=1', 'model.stages.-9=1', 'model.stages.\u0663=1',
           'model.stages.a=1']


@pytest.mark.parametrize('option', OPTIONS, ids=range(len(OPTIONS)))
def test_hostile_overrides_are_refused_and_do_nothing(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.py').write_text('model = dict(stages=[dict(depth=1)])\nlr = 0.1\n')
    start = time.process_time()
    with pytest.raises(ConfigError) as refusal:
        load_config('a.py', [option])
    assert time.process_time() - start < 5
    assert '--cfg-options' in str(refusal.value) and len(str(refusal.value)) < 1000
    assert [p.name for p in tmp_path.iterdir()] == ['a.py']


WRONG: list[Any] = [None, -1, 'x', [1, [2]], {'type': 'ReLU'}, {1: 2}, 1e30]


def damaged(cfg: dict[str, Any], part: str, step: int) -> list[tuple[str, dict[str, Any]]]:
    """(where, the config with something else there), for every `step`th place below `part`."""
    out = []
    for i, (path, _) in enumerate(walk(cfg[part], (part,))):
        for j, value in enumerate(WRONG):
            if (i + j) % step:
                continue
            new = copy.deepcopy(cfg)
            at: Any = new
            for key in path[:-1]:
                at = at[key]
            if not isinstance(at, tuple):
                at[path[-1]] = copy.deepcopy(value)
                out.append((f'{path} = {value!r}', new))
    return out


@pytest.mark.parametrize('part',
                         ['model', 'train_dataloader', 'test_evaluator', 'optim_wrapper', 'param_scheduler',
                          'train_cfg',
                                  'default_hooks', 'custom_hooks'])
def test_wrong_types_at_every_key_are_problems_and_no_crashes(part):
    for _, cfg in damaged(load_config('demo/rtmdet_shapes').to_dict(), part, step=3):
        with contextlib.suppress(ConfigError):
            problems(Config(cfg))


def test_a_model_of_wrong_types_is_refused_by_the_part_that_cannot_be_made():
    for where, cfg in damaged(load_config('demo/rtmdet_shapes').to_dict(), 'model', step=19):
        try:
            with torch.device('meta'):
                build_model(cfg)
        except ConfigError as e:
            assert str(e)
        except Exception as e:
            pytest.fail(f'{where}: {type(e).__name__}: {e}')
