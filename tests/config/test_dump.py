"""A resolved config as text."""

from __future__ import annotations

import math

import pytest

from omnidet.config import Config, dump, load_config, zoo_names
from omnidet.errors import ConfigError

ODD = {
    'text': 'it\'s "{{ fileBasename }}" {{$HOME:x}} {{{ \\ \n é', 'braces': '{{', 'base': '{{_base_.a}}', 'one': (1,),
    'none': (),
    'empty': {}, 'list': [], 'sets': {1, 2}, 'noset': set(), 'inf': float('inf'), 'minus': -math.inf, 'small': 1e-300,
    'keys': {'a b': 1, 'class': 2, 3: 4, None: 5, True: 6}, 'plain': {'self': 1, 'type': 'A'},
    'flags': [True, None, -0.0],
    'long': [{'type': 'A' * 40, 'x': ('b' * 40,)}, {'type': 'C' * 90, 'nested': {'deep': [[1, 2], [(3, [4])]]}}],
    'tuple_of_dicts': ({'type': 'A' * 60, 'b': 'c' * 60},),
}


@pytest.mark.parametrize('origins', [False, True])
def test_text_loads_again_to_an_equal_config(load, origins):
    cfg = load(dump(ODD))
    assert cfg == ODD
    assert type(cfg.one) is tuple and list(cfg) == list(ODD) and math.copysign(1, cfg.flags[2]) == -1
    again = load(dump(cfg, origins=origins), 'again.py')
    assert again == cfg


@pytest.mark.parametrize('name', zoo_names())
def test_every_zoo_config_survives(load, name):
    cfg = load_config(name)
    assert load(dump(cfg)) == cfg and load(dump(cfg, origins=True), 'b.py') == cfg


def test_short_values_stay_on_a_line_and_long_ones_are_broken():
    cfg = {'a': 1, 'b': {'x': [1, 2]}, 'c': [{'type': 'A' * 60}, {'type': 'B' * 60, 'y': (1,)}], 'd': 2}
    assert dump(cfg) == f"""\
a = 1
b = dict(x=[1, 2])

c = [
    dict(type='{'A' * 60}'),
    dict(type='{'B' * 60}', y=(1,))]

d = 2
"""


def test_origins_stand_behind_their_values(write, monkeypatch):
    base = write('base.py', 'model = dict(\n    a=1,\n    b=dict(c=2, d=3))\n')
    child = write('child.py', "_base_ = './base.py'\nmodel = dict(b=dict(c=5))\n")
    monkeypatch.chdir(base.parent)
    assert dump(load_config(child.resolve(), ['model.e=[1,2]']), origins=True) == """\
model = dict(
    a=1,  # base.py:2
    b=dict(
        c=5,  # child.py:2
        d=3,  # base.py:3
    ),
    e=[1, 2],  # --cfg-options
)
"""


@pytest.mark.parametrize('cfg', [{'a b': 1}, {'class': 1}, {'a': object()}])
def test_what_no_file_can_hold_is_refused(cfg):
    with pytest.raises(ConfigError, match='cannot be written'):
        dump(Config(cfg))
