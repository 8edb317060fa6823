"""How files inherit from one another: each merge worked out by hand."""

from __future__ import annotations

import pytest

from omnidet.config import ConfigDict, load_config
from omnidet.errors import ConfigError

BASE = """
    model = dict(type='A', backbone=dict(depth=50, out=(1, 2)), necks=[dict(type='N', c=1), dict(type='M')])
    lr = 0.1
    hooks = [1, 2]
    nothing = None
"""


@pytest.mark.parametrize(('child', 'changes'), [
    ('lr = 0.2', {'lr': 0.2}),
    ('new = dict(a=1)', {'new': {'a': 1}}),
    ('hooks = [3]', {'hooks': [3]}),
    ('model = dict(backbone=dict(depth=101))', {'model.backbone.depth': 101}),
    ('model = dict(backbone=dict(_delete_=True, type="B"))', {'model.backbone': {'type': 'B'}}),
    ('model = dict(_delete_=True, type="B")', {'model': {'type': 'B'}}),
    ('model = dict(backbone=dict(_delete_=False, depth=1))', {'model.backbone.depth': 1}),
    ('model = dict(backbone=3)', {'model.backbone': 3}),
    ('nothing = dict(a=1)', {'nothing': {'a': 1}}),
    ('nothing = dict(_delete_=True, a=1)', {'nothing': {'a': 1}}),
    ('model = dict(necks={"1": dict(c=2)})', {'model.necks.1.c': 2}),
    ('model = dict(necks={0: dict(_delete_=True, type="K")})', {'model.necks.0': {'type': 'K'}}),
    ('hooks = {"0": 5}', {'hooks.0': 5}),
    # reading what is inherited, and changing it
    ('lr = _base_.lr * 2', {'lr': 0.2}),
    ('lr = {{_base_.lr}}', {'lr': 0.1}),
    ('a = _base_.model.necks[0].c', {'a': 1}),
    ('a = {{_base_.model.necks.0.type}}', {'a': 'N'}),
    ('a = _base_["hooks"][-1]', {'a': 2}),
    ('del _base_.lr', {'lr': None}),
    ('m = _base_.model\nm.backbone.depth = 18\nm.pop("necks")\ndel _base_.hooks',
     {'model.backbone.depth': 18, 'model.necks': None, 'hooks': None,
      'm': {'type': 'A', 'backbone': {'depth': 18, 'out': (1, 2)}}}),
    ('_base_.model.update(backbone=dict(depth=1))', {'model.backbone.depth': 1}),    # what is inherited updates deeply
    ('_base_.model.merge(dict(backbone=dict(_delete_=True, w=1)))', {'model.backbone': {'w': 1}}),
    ('_base_.hooks.append(3)', {'hooks': [1, 2, 3]}),
    ('_base_.model["backbone"]["out"] += (3,)', {'model.backbone.out': (1, 2, 3)}),
    ('_base_.model.setdefault("head", dict(x=1)).x = 2', {'model.head': {'x': 2}}),
])
def test_child_changes_what_it_names_and_nothing_else(write, child, changes):
    write('base.py', BASE)
    path = write('child.py', "_base_ = './base.py'\n")
    path.write_text(path.read_text() + child)
    expected = load_config(path.with_name('base.py'))
    for key, value in changes.items():
        *parents, last = key.split('.')
        at = expected
        for part in parents:
            at = at[int(part) if isinstance(at, list) else part]
        if value is None:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    assert load_config(path) == expected


@pytest.mark.parametrize(('child', 'message'), [
    ('lr = dict(a=1)', r'child\.py:2: lr is a dict here, but a float in what it inherits from; .*_delete_=True'),
    ('model = dict(necks=dict(c=1))', r'model\.necks is a dict here, but a list'),
    ('model = dict(necks={"2": dict()})', r'model\.necks has no item 2: it has 2'),
    ('a = _base_.modle', r"child\.py:2: _base_ has no 'modle'; did you mean 'model'"),
    ('a = _base_.model["bakbone"]', r"_base_\.model has no 'bakbone'; did you mean 'backbone'"),
    ('del _base_', 'cannot be deleted'),
    ('_base_ = "other.py"', r'child\.py:2: _base_ is assigned once'),
    ('if True:\n    _base_ = "other.py"', r'child\.py:3: _base_ is assigned once'),
    ('a = _base_ = "other.py"', r'child\.py:2: _base_ is assigned once'),
])
def test_what_cannot_be_merged_or_read_is_refused(write, child, message):
    write('base.py', BASE)
    path = write('child.py', f"_base_ = './base.py'\n{child}")
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_several_bases_add_up_and_may_not_share_a_key(write):
    write('a.py', 'a = dict(x=1)')
    write('sub/b.py', "_base_ = '../a.py'\na = dict(y=2)\nb = 1")
    write('c.py', 'c = 1')
    assert load_config(write('ok.py', "_base_ = ['sub/b.py', './c.py']\nc = 2")) == dict(a=dict(x=1, y=2), b=1, c=2)
    with pytest.raises(ConfigError, match=r"'a' is in two of the files.*b\.py and .*a\.py"):
        load_config(write('twice.py', "_base_ = ['./sub/b.py', './a.py']"))


def test_changing_one_alias_of_an_inherited_dict_leaves_the_other(write):
    write('base.py', 'val = dict(a=1)\ntest = val')
    cfg = load_config(write('child.py', "_base_ = './base.py'\n_base_.val.a = 2"))
    assert cfg == dict(val=dict(a=2), test=dict(a=1))


def test_delete_is_kept_where_there_was_nothing_to_delete(write):
    write('base.py', 'a = dict(b=1)')
    cfg = load_config(write('child.py', "_base_ = './base.py'\na = dict(c=dict(_delete_=True, d=1))"))
    assert cfg.a == dict(b=1, c=dict(_delete_=True, d=1))


def test_pure_python_form_inherits_names_and_classes(write):
    write('_base_/data.py', "from x.y import CocoDataset as D\nroot = 'data/'\nset = dict(type=D, root=root)\n_own = 1")
    write('_base_/model.py', 'model = dict(type="A", backbone=dict(depth=50))\nother = 3')
    cfg = load_config(write('exp/a.py', """
        from mmengine.config import read_base
        with read_base():
            from .._base_.data import *
            from .._base_.model import model as net
        net.update(dict(backbone=dict(depth=101)))
        more = dict(type=D)
    """))
    assert cfg == dict(root='data/', set=dict(type='CocoDataset', root='data/'),
                       net=dict(type='A', backbone=dict(depth=101)), more=dict(type='CocoDataset'))
    with pytest.raises(ConfigError, match=r"a\.py:3: .*model\.py defines no 'modle'; did you mean 'model'"):
        load_config(write('exp/a.py', '''
            from mmengine.config import read_base
            with read_base(): from .._base_.model import modle'''))


def test_pure_python_form_inherits_from_our_zoo(load):
    cfg = load('with read_base():\n    from mmdet.configs.rtmdet.rtmdet_l_8xb32_300e_coco import *\nbase_lr = 1')
    assert cfg.model.type == 'RTMDet' and cfg.base_lr == 1


def test_json_and_yaml_inherit_too(write):
    write('base.py', BASE)
    json_file = write('a.json', '''{
        "_base_": "./base.py", "lr": 0.5, "a": {{_base_.model.necks}}, "b": "{{fileBasename}}"}''')
    yaml_file = write('b.yaml', """
        _base_: [./a.json]
        model:
          backbone: {depth: 18}
        pair: !!python/tuple [1, 2]
        copied: "{{_base_.lr}}"
    """)
    cfg = load_config(yaml_file)
    assert cfg.lr == 0.5 and cfg.b == 'a.json' and cfg.a[0].c == 1
    assert cfg.model.backbone == dict(depth=18, out=(1, 2)) and cfg.pair == (1, 2) and cfg.copied == 0.5
    assert load_config(json_file).hooks == [1, 2] and type(cfg.model) is ConfigDict


def test_deprecated_files_warn(write):
    path = write('old.py', "_deprecation_ = dict(expected='new.py', reference='http://x')\na = 1")
    with pytest.warns(UserWarning, match=r'old\.py is deprecated; use new\.py \(see http://x\)'):
        assert load_config(path) == dict(a=1)


def test_every_value_knows_its_file_and_line(write):
    base = write('base.py', """\
        model = dict(
            type='A',
            neck=dict(c=1, d=2))
        pipeline = [
            dict(type='P'),
            dict(type='Q', n=1)]
        lr = 1
        """)
    child = write('child.py', """\
        _base_ = './base.py'
        model = dict(neck=dict(
            c=3))
        pipeline = _base_.pipeline
        pipeline[1].n = 5
        _base_.model.update(x=1)
        a = b = dict(z=[dict(y=1)])
        """)
    cfg = load_config(child, ['model.neck.e=7'])
    expected = {
        ('model', 'type'): (base, 2), ('model', 'neck', 'c'): (child, 3), ('model', 'neck', 'd'): (base, 3),
        ('pipeline', 0, 'type'): (base, 5), ('pipeline', 1, 'n'): (child, 5), ('lr',): (base, 7),
        ('model', 'x'): (child, 6), ('a', 'z', 0, 'y'): (child, 7), ('b', 'z', 0, 'y'): (child, 7),
        ('model', 'neck', 'e'): ('--cfg-options', 0)}
    for path, (file, line) in expected.items():
        assert cfg.origin(path) == (str(file), line), path


@pytest.mark.parametrize(('name', 'text'), [
    ('a.json', '{\n "x": [1,\n  {"y":\n   {"z": "}"}}],\n "w": []\n}'),
    ('a.yaml', 'x:\n  - 1\n  -\n    y: {z: "}"}\nw: []'),
])
def test_lines_of_documents_are_known(write, name, text):
    path = write(name, '')
    path.write_text(text)
    cfg = load_config(path)
    lines = [cfg.origins[k].line for k in (('x',), ('x', 1, 'y'), ('x', 1, 'y', 'z'), ('w',))]
    assert cfg == {'x': [1, {'y': {'z': '}'}}], 'w': []}
    assert lines == ([2, 3, 4, 5] if name == 'a.json' else [1, 4, 4, 5])


def test_trust_executes_the_file(write):
    write('base.py', 'a = dict(b=1)')
    path = write('child.py', """\
        _base_ = './base.py'
        import math
        from mmdet.models import FPN
        def double(x):
            return 2 * x
        class Mine:
            pass
        c = double({{_base_.a.b}})
        a = dict(b=math.floor(2.5), type=FPN, name='{{ fileBasename }}')
        """)
    with pytest.raises(ConfigError, match=r"child\.py:8: the function 'double' is not known.*--trust"):
        load_config(path)
    cfg = load_config(path, trust=True)
    assert cfg == dict(a=dict(b=2, type='FPN', name='child.py'), c=2)
    assert cfg.origin(('c',)) == (str(path), 8)
    with pytest.raises(ConfigError, match=r'child\.py:1: ZeroDivisionError'):
        load_config(write('child.py', 'a = 1 / 0'), trust=True)


def test_trust_reads_the_pure_python_form(write):
    write('base.py', 'from mmdet.models import FPN\nmodel = dict(neck=dict(type=FPN))')
    cfg = load_config(write('child.py', """
        from mmengine.config import read_base
        with read_base():
            from .base import *
        model.update(dict(neck=dict(c=len('abc'))))
        neck = dict(type=FPN)
    """), trust=True)
    assert cfg == dict(model=dict(neck=dict(type='FPN', c=3)), neck=dict(type='FPN'))
