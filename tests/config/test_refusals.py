"""What a config may not do: each ends in a ConfigError with file and line, soon, and nothing of the file has run."""

from __future__ import annotations

import os
import time

import pytest

from omnidet.config import load_config
from omnidet.errors import ConfigError

ESCAPES = {
    'import': "x = __import__('os').system('touch {marker}')",
    'open': "x = open('{marker}', 'w')",
    'exec': "exec('1')",
    'eval in a comprehension': "x = [eval(y) for y in ['1']]",
    'imported function': "import os\nos.system('touch {marker}')",
    'imported name': "from os import system\nx = system('touch {marker}')",
    'imported call in a default': "import subprocess as s\nx = dict(a=s.run(['touch', '{marker}']))",
    'defined function': "def f():\n    open('{marker}', 'w')\nx = f()",
    'defined class': "class A:\n    pass\nx = A()",
    'lambda': "x = (lambda: 1)()",
    'class of a tuple': "x = ().__class__.__bases__[0].__subclasses__()",
    'class of a text': "x = 'a'.__class__",
    'globals of a method': "x = [].append.__self__",
    'class of a dict': "x = dict(a=1).__class__",
    'dunder of an import': "import os\nx = os.__dict__",
    'format reaching into': "x = '{{0.__class__}}'.format(1)",
    'format indexing': "x = '{{0[a]}}'.format(dict(a=1))",
    'format_map': "x = '{{a}}'.format_map(dict(a=1))",
    'getattr': "x = getattr([], 'append')",
    'vars': "x = vars()",
    'type': "x = type(1)",
    'walrus': "x = [y := 1, y]",
    'while': "while True:\n    pass",
    'try': "try:\n    x = 1\nexcept Exception:\n    pass",
    'with': "with open('{marker}', 'w') as f:\n    pass",
    'raise': "raise SystemExit",
    'assert': "assert False",
    'global': "global x",
    'yield': "x = [(yield)]",
    'star call of nothing': "x = print('a')",
    'key function': "x = sorted([1], key=len)",
    'bytes': "x = b'a'",
    'ellipsis': "x = ...",
    'complex': "x = 1j",
    'complex by a root': "x = (-8) ** 0.5",
    'matrix product': "x = 1 @ 2",
    'base as a value': "x = _base_",
    'call of a value': "x = 3\ny = x(1)",
    'call of a call': "x = dict(a=1)['a']()",
    'addition to an import': "import a\nx = a.b + 1",
    'import in a text': "import a\nx = f'{{a}}'",
    'attribute of a plain dict': "x = dict(a=1)\ny = x.a",
    'setting a plain attribute': "x = dict(a=1)\nx.a = 3",
    'undefined': "x = 1\ny = xx + 1",
    'missing key': "x = dict(a=1)['b']",
    'index too large': "x = [1][2]",
    'division by zero': "x = 1 / 0",
    'wrong operands': "x = 1 + 'a'",
    'too few to unpack': "a, b = [1]",
    'break outside': "break",
    'not iterable': "x = [y for y in 3]",
    'overflow': "x = 2.0 ** 10000",
    'unhashable': "x = dict()\nx[[1]] = 2",
    'async': "async def f():\n    pass\nx = [y async for y in []]",
}


@pytest.mark.parametrize('name', ESCAPES)
def test_what_is_not_data_is_refused_where_it_stands(load, tmp_path, name):
    marker = tmp_path / 'ran'
    text = ESCAPES[name].replace('{marker}', marker.as_posix()).replace('{{', '{').replace('}}', '}')
    with pytest.raises(ConfigError, match=r'cfg\.py:\d+: .+'):
        load(text)
    assert not marker.exists()


BOMBS = {
    'power': 'x = 10 ** 10 ** 10',
    'power of a power': 'x = 9\nfor i in range(99):\n    x = x ** 9',
    'shift': 'x = 1 << 10 ** 12',
    'product': 'x = 7 ** 900\nfor i in range(90):\n    x = x * x',
    'round': 'x = round(5, -10 ** 9)',
    'long text': "x = 'a' * 10 ** 12",
    'doubled text': "x = 'a'\nfor i in range(60):\n    x += x",
    'many long texts': "x = ['a' * 900000 + str(i) for i in range(10 ** 6)]",
    'replaced text': "x = ('a' * 999999).replace('a', 'b' * 999999)",
    'replaced nothing': "x = ('a' * 999999).replace('', 'b' * 999999)",
    'joined text': "x = ('b' * 99999).join(['a' * 99] * 99999)",
    'split text': "x = [('a ' * 400000).split() for i in range(99)]",
    'long list': 'x = [0] * 10 ** 12',
    'doubled list': 'x = [0]\nfor i in range(60):\n    x.extend(x)',
    'list of a range': 'x = list(range(10 ** 12))',
    'range in the result': 'x = range(10 ** 12)',
    'sum of a range': 'x = sum(range(10 ** 12))',
    'sum of lists': 'x = sum([[0] * 999] * 9999, [])',
    'maximum of a range': 'x = max(range(10 ** 12))',
    'not in a range': "x = 'a' in range(10 ** 12)",
    'unpacked range': 'x = [*range(10 ** 12)]',
    'sliced range': 'x = list(range(10 ** 12)[::2])',
    'loop': 'for i in range(10 ** 9):\n    pass',
    'nested comprehension': 'x = [[[[1 for a in range(99)] for b in range(99)] for c in range(99)] for d in range(99)]',
    'one comprehension': 'x = [1 for a in range(999) for b in range(999) for c in range(999)]',
    'width of a number': "x = f'{1:999999999999}'",
    'computed width': "x = f'{1:{10 ** 11}}'",
    'width of format': "x = '{:>99999999999}'.format(1)",
    'nested width of format': "x = '{:>{}}'.format(1, 10 ** 11)",
    'width of percent': "x = '%999999999999d' % 1",
    'starred width of percent': "x = '%*d' % (10 ** 11, 1)",
    'precision': "x = f'{1.5:.99999999999f}'",
    'percent signs': "x = ('%(' * 400000) % dict(a=1)",
    'laughs in the result': 'a = [0]\nfor i in range(60):\n    a = [a, a]',
    'laughs in print': 'a = [0]\nfor i in range(60):\n    a = [a, a]\nx = str(a)\n',
    'laughs in a format': "a = [0]\nfor i in range(60):\n    a = [a, a]\nx = '%s' % (a,)\n",
    'laughs in comparison': 'a = [0]\nb = [0]\nfor i in range(60):\n    a = [a, a]\n    b = [b, b]\nx = a == b',
    'laughs in a search': 'a = [0]\nb = [0]\nfor i in range(60):\n    a = [a, a]\n    b = [b, b]\nx = [a].index(b)',
    'laughs as a key': 'a = (0,)\nfor i in range(60):\n    a = (a, a)\nx = {a: 1}',
    'laughs in a set': 'a = (0,)\nfor i in range(60):\n    a = (a, a)\nx = set([a])',
    'laughs in a set method': 'a = (0,)\nfor i in range(60):\n    a = (a, a)\nx = {1}.union([a])',
    'a list in itself': 'a = []\na.append(a)',
    'a list in itself, printed': 'a = []\na.append(a)\nx = f"{a}"',
    'a dict in itself': 'a = dict()\na["a"] = a',
    'deep value': 'a = []\nfor i in range(9999):\n    a = [a]',
    'colliding keys': 'x = {i * (2 ** 61 - 1): 0 for i in range(100000)}',
    'colliding tuples': 'x = {(a, b, c, d, e, f): 0 for a in range(-2, 0) for b in range(-2, 0) for c in range(9) '
                        'for d in range(9) for e in range(9) for f in range(9)}',
    'nested brackets': 'x = ' + '[' * 10_000 + ']' * 10_000,
    'nested dicts': 'x = ' + 'dict(a=' * 10_000 + '1' + ')' * 10_000,
    'long sum': 'x = ' + '+'.join(['1'] * 50_000),
    'many signs': 'x = ' + '-' * 50_000 + '1',
    'many nots': 'x = ' + 'not ' * 50_000 + '1',
    'many attributes': 'import a\nx = a' + '.b' * 50_000,
    'large number': 'x = ' + '9' * 100_000,
    'large file': 'x = 1\n' * 400_000,
}


@pytest.mark.parametrize('name', BOMBS)
def test_what_would_take_too_much_is_refused_soon(load, name):
    start = time.process_time()
    with pytest.raises(ConfigError, match=r'cfg\.py'):
        load(BOMBS[name])
    assert time.process_time() - start < 10    # what a bounded reader needs, with a wide margin


DAMAGED = {
    'cut.py': b'model = dict(type="A", backbone=dict(', 'indent.py': b'a = 1\n  b = 2',
    'binary.py': bytes(range(256)) * 9,
    'zeros.py': b'a = 1\0', 'latin.py': 'a = "\xe9"'.encode('latin-1'), 'utf16.py': 'a = 1'.encode('utf-16'),
    'codec.py': b'# -*- coding: nonsense -*-\na = 1', 'rot13.py': b'# -*- coding: rot13 -*-\na = 1',
    'cut.json': b'{"a": [1, ', 'list.json': b'[1]', 'empty.json': b'', 'twice.json': b'{"a": {"b": 1, "b": 2}}',
    'deep.json': b'{"a":' * 50_000, 'nested.json': b'[' * 100_000 + b']' * 100_000,
    'number.json': b'{"a": ' + b'9' * 9999 + b'}',
    'cut.yaml': b'a: [1, 2', 'list.yaml': b'- 1', 'empty.yaml': b'', 'tab.yaml': b'a:\n\t- 1',
    'binary.yaml': bytes(range(256)),
    'object.yaml': b'a: !!python/object/apply:os.system ["true"]', 'date.yaml': b'a: 2020-01-01',
    'key.yaml': b'? [1]\n: 2',
    'loop.yaml': b'a: &a [*a]', 'alias.yaml': b'a: *b', 'deep.yaml': b'a: ' + b'[' * 5000,
    'laughs.yaml': b'a: &a [1]\n' + b''.join(
        b'%c: &%c [%s]\n' % (98 + i, 98 + i, b', '.join([b'*%c' % (97 + i)] * 10)) for i in range(9)),
    'base_number.py': b'_base_ = 3', 'base_name.py': b'x = "a.py"\n_base_ = x', 'base_empty.py': b'_base_ = ""',
    'base_odd.py': b'_base_ = "a\\0b.py"', 'base_long.py': b'_base_ = "a" * 9999',
    'base_home.py': b'_base_ = "~nobody-here/a.py"',
    'base_device.py': b'_base_ = "/dev/zero"', 'deeper.yaml': b'[' * 190_000, 'base_key.yaml': b'_base_: 3',
    'missing_base.py': b'_base_ = "./nowhere.py"', 'scope.py': b'_base_ = "nowhere::a.py"',
    'import.py': b'with read_base():\n    from .nowhere import *', 'read.py': b'with read_base():\n    x = 1',
    'attribute.py': b'x = _base_.y', 'notes.txt': b'a = 1', 'none.py.bak': b'a = 1',
}


@pytest.mark.parametrize('name', DAMAGED)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, name):
    (tmp_path / 'notes.txt').write_text('a = 1')
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    start = time.process_time()
    with pytest.raises(ConfigError, match=name):
        load_config(path)
    assert time.process_time() - start < 10    # what a bounded reader needs, with a wide margin


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / 'a.py'
    path.write_text('a = 1')
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip('this user may read everything')
    with pytest.raises(ConfigError, match='cannot be read'):
        load_config(path)


def test_a_folder_is_refused_with_what_is_in_it(write):
    folder = write('some/a.py', 'a = 1').parent
    with pytest.raises(ConfigError, match=r'is a folder.*a\.py'):
        load_config(folder)


def test_files_that_inherit_in_a_circle_are_refused(write):
    write('a.py', "_base_ = './b.py'")
    write('b.py', "_base_ = ['./c.py']")
    path = write('c.py', "_base_ = './a.py'")
    with pytest.raises(ConfigError, match=r'inherits from itself: c\.py -> a\.py -> b\.py -> c\.py'):
        load_config(path)


def test_files_that_inherit_too_deep_are_refused(write):
    for i in range(200):
        path = write(f'f{i}.py', f"_base_ = './f{i - 1}.py'" if i else 'a = 1')
    with pytest.raises(ConfigError, match='more than 30 files'):
        load_config(path)


def test_files_that_inherit_too_often_are_refused(write):
    for i in range(12):
        path = write(f'f{i}.py', f'_base_ = {[f"./f{i - 1}.py"] * 10}' if i else '')
    start = time.process_time()
    with pytest.raises(ConfigError, match='more than 300 files'):
        load_config(path)
    assert time.process_time() - start < 10    # what a bounded reader needs, with a wide margin


def test_templates_without_an_end_are_read_in_linear_time(load):
    start = time.process_time()
    with pytest.raises(ConfigError):
        load('x = {{$A:' + ' ' * 200_000 + '\ny = {{' + ' ' * 200_000 + '\nz = "' + '{{_base_.' + 'a' * 200_000)
    assert time.process_time() - start < 10    # what a bounded reader needs, with a wide margin
