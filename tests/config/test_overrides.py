"""`--cfg-options` and their kin."""

from __future__ import annotations

import pytest

from omnidet.errors import ConfigError

BASE = """
    model = dict(neck=dict(c=1, t=(1, 2)), stages=[dict(depth=1), dict(depth=2)], head=None)
    lr = 0.1
"""


@pytest.mark.parametrize(('text', 'value'), [
    ('3', 3), ('-3', -3), ('1e-4', 1e-4), ('+2', 2), ('True', True), ('false', False), ('None', None), ('none', None),
    ('word', 'word'), ("'3'", '3'), ('"a b"', 'a b'),
    ('data/my coco/', 'data/my coco/'), ('a=b', 'a=b'), ('', ''),
    ('https://x.y/z.pth', 'https://x.y/z.pth'), ('a-b', 'a-b'), ('3x', '3x'), ('2024-01-01', '2024-01-01'),
    ('[1, 2]', [1, 2]), ('(1,2)', (1, 2)), ('[(1,2),[3]]', [(1, 2), [3]]),
    ('1,2', [1, 2]), ('bbox,segm', ['bbox', 'segm']),
    ('[bbox,segm]', ['bbox', 'segm']), ('[true,None]', [True, None]), ('{"a": 1}', {'a': 1}), ('[]', []),
    ('dict(type=BN, n=[1,dict(a=2)])', {'type': 'BN', 'n': [1, {'a': 2}]}), ('[2*3]', [6]),
    ('os.getcwd()', 'os.getcwd()'),
])
def test_values_are_read_as_python_or_as_words(load, text, value):
    got = load(BASE, overrides=[f'new={text}']).new
    assert (got == value and type(got) is type(value)) or isinstance(value, dict)


@pytest.mark.parametrize(('options', 'expected'), [
    (['model.neck.c=5', 'lr=1'], dict(lr=1, neck=dict(c=5, t=(1, 2)))),
    (['model.neck=dict(d=2)'], dict(neck=dict(c=1, t=(1, 2), d=2))),
    (['model.neck=dict(_delete_=True,d=2)'], dict(neck=dict(d=2))),
    (['model.neck.a.b=2'], dict(neck=dict(c=1, t=(1, 2), a=dict(b=2)))),
    (['model.stages.0.depth=9'], dict(stages=[dict(depth=9), dict(depth=2)])),
    (['model.stages.-1.depth=9', 'model.stages.1.width=3'], dict(stages=[dict(depth=1), dict(depth=9, width=3)])),
    (['model.stages.0=dict(width=1)'], dict(stages=[dict(depth=1, width=1), dict(depth=2)])),
    (['model.stages=[]'], dict(stages=[])),
    (['model.head.type=H'], dict(head=dict(type='H'))),
    (['model.head=dict(type=H)'], dict(head=dict(type='H'))),
    ({'model.neck.c': 5}, dict(neck=dict(c=5, t=(1, 2)))),
    ({'model': {'neck': {'c': 5}}}, dict(neck=dict(c=5, t=(1, 2)))),
])
def test_options_change_what_they_name(load, options, expected):
    cfg = load(BASE, overrides=options)
    model = dict(neck=dict(c=1, t=(1, 2)), stages=[dict(depth=1), dict(depth=2)], head=None)
    lr = expected.pop('lr', 0.1)
    assert cfg == dict(model=model | expected, lr=lr)


@pytest.mark.parametrize(('option', 'message'), [
    ('model.neck.c', 'an option is written key=value'),
    ('=3', 'an option is written key=value'),
    ('a..b=3', 'an option is written key=value'),
    ('lr=[1,2', r'--cfg-options lr=\[1,2: this is no Python value'),
    ('lr=dict(a=', 'this is no Python value'),
    ('lr=[open("x")]', 'not known to a config'),
    ('lr=[10**10**10]', 'bits'),
    ('lr.a=3', 'lr is 0.1; there is nothing in it'),
    ('model.neck.c.x.y=3', r'model\.neck\.c is 1; there is nothing in it'),
    ('model.stages.2.depth=1', r"model\.stages is a list of 2; '2' is none of its numbers"),
    ('model.stages.first=1', r"'first' is none of its numbers"),
    ('lr=dict(a=1)', 'lr is a dict here, but a float'),
])
def test_options_that_cannot_be_followed_are_refused(load, option, message):
    with pytest.raises(ConfigError, match=message):
        load(BASE, overrides=[option])
