"""Names to classes, and what a wrong one says."""

from __future__ import annotations

import pytest

from omnidet.errors import ConfigError
from omnidet.registry import KINDS, MODELS, NECKS, Registry, find_anywhere


@pytest.fixture
def registry():
    r = Registry('neck', 'no.such.package')

    @r.register
    class FPN:
        def __init__(self, in_channels, out_channels=8):
            self.in_channels, self.out_channels = in_channels, out_channels
    return r


def test_cfg_wins_over_defaults_and_is_not_changed(registry):
    cfg = {'type': 'FPN', 'out_channels': 3}
    part = registry.build(cfg, in_channels=1, out_channels=9)
    assert (part.in_channels, part.out_channels) == (1, 3) and cfg == {'type': 'FPN', 'out_channels': 3}


def test_scopes_and_module_paths_are_dropped(registry):
    assert registry.build({'type': 'mmdet.FPN', 'in_channels': 1}).in_channels == 1
    assert 'mmdet.models.necks.FPN' in registry




def test_a_class_may_stand_for_its_name(registry):
    cls = registry.get('FPN')
    assert isinstance(registry.build({'type': cls, 'in_channels': 1}), cls)


@pytest.mark.parametrize(('cfg', 'says'), [
    ({'type': 'FPm', 'in_channels': 1}, "no neck 'FPm'; did you mean 'FPN'"),
    ({'type': 'FPN', 'in_chanels': 1}, "FPN has no argument 'in_chanels'; did you mean 'in_channels'"),
    ({'type': 'FPN'}, "FPN needs the argument 'in_channels'"),
    ({'in_channels': 1}, 'a neck needs a type'),
    ('FPN', 'described by a dict'),
    ([{'type': 'FPN', 'in_channels': 1}], 'described by a dict'),
])
def test_errors_say_what_is_allowed(registry, cfg, says):
    with pytest.raises(ConfigError, match=says):
        registry.build(cfg)


def test_a_taken_name_is_refused_unless_forced(registry):
    class Other:
        pass
    with pytest.raises(ConfigError, match='registered already'):
        registry.register(Other, 'FPN')
    assert registry.register(Other, 'FPN', force=True) is Other and registry.get('FPN') is Other


def test_a_users_part_is_found_under_every_kind_it_may_be_looked_up_by():
    @MODELS.register_module(name='TestOnlyNeck', force=True)
    class TestOnlyNeck:
        pass
    assert NECKS.get('TestOnlyNeck') is TestOnlyNeck is find_anywhere('mmdet.TestOnlyNeck')


def test_every_package_of_parts_imports():
    for kind in KINDS:
        kind.names()
    assert find_anywhere('CSPNeXtPAFPN') is not None and find_anywhere('NoSuchPart') is None
