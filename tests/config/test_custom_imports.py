"""Modules that a config wants imported."""

from __future__ import annotations

import sys

import pytest

from omnidet.config import check, load_config
from omnidet.errors import ConfigError


@pytest.fixture
def config(write, monkeypatch):
    folder = write('my_parts_of_a_test.py', 'LOADED = True').parent
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.delitem(sys.modules, 'my_parts_of_a_test', raising=False)
    return write('cfg.py', "custom_imports = dict(imports=['mmdet.models', 'my_parts_of_a_test'])\n"
                           "model = dict(type='Mine')")


def test_loading_imports_nothing_and_checking_says_how_to(config):
    cfg = load_config(config)
    assert 'my_parts_of_a_test' not in sys.modules
    with pytest.raises(ConfigError, match=r"no 'Mine'.*\n.*my_parts_of_a_test is not imported.*--import"):
        check(cfg)


def test_trust_imports_what_is_not_ours(config):
    load_config(config, trust=True)
    assert sys.modules.pop('my_parts_of_a_test').LOADED


def test_a_module_that_is_missing_is_an_error_unless_that_is_allowed(write):
    text = "custom_imports = dict(imports='no_such_module_anywhere', allow_failed_imports={})"
    load_config(write('a.py', text.format(True)), trust=True)
    with pytest.raises(ConfigError, match='no_such_module_anywhere cannot be imported'):
        load_config(write('a.py', text.format(False)), trust=True)
    with pytest.raises(ConfigError, match='custom_imports is a dict such as'):
        load_config(write('a.py', 'custom_imports = 3'), trust=True)
