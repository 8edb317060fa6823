"""Modules that a config wants imported."""

from __future__ import annotations

import logging
import sys

import pytest

from omnidet.compat import user_code
from omnidet.config import check, load_config
from omnidet.config.custom_imports import explain, wanted
from omnidet.errors import ConfigError


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setattr(user_code, '_imported', [])
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop('my_parts_of_a_test', None)


@pytest.fixture
def config(write):
    write('my_parts_of_a_test.py', 'LOADED = True')
    return write('cfg.py', "custom_imports = dict(imports=['mmdet.models', 'my_parts_of_a_test'])\n"
                           "model = dict(type='Mine')")


def test_loading_imports_nothing_and_checking_says_how_to(config):
    cfg = load_config(config)
    assert 'my_parts_of_a_test' not in sys.modules
    with pytest.raises(ConfigError) as e:
        check(cfg)
    said = str(e.value)
    assert "there is no 'Mine'" in said
    for part in ('my_parts_of_a_test would be imported', 'runs code', '--import my_parts_of_a_test', '--trust'):
        assert part in said


def test_a_run_that_lacks_no_part_goes_on_with_a_warning(write, caplog):
    cfg = load_config(write('cfg.py', "custom_imports = dict(imports=['my_patches'])"))
    with caplog.at_level(logging.WARNING, 'omnidet'):
        check(cfg)
    assert 'my_patches would be imported' in caplog.text and 'goes on without' in caplog.text
    caplog.clear()
    check(load_config(write('cfg.py', "custom_imports = dict(imports=['mmpretrain.models', 'mmcls.models'])")))
    assert not caplog.text


def test_trust_imports_what_is_not_ours(config):
    load_config(config, trust=True)
    assert sys.modules['my_parts_of_a_test'].LOADED


@pytest.mark.parametrize('name', ['mmdet.models', 'mmdet.models.necks.fpn', 'mmpretrain.models', 'mmcls.models',
                                  'mmcv.ops', 'mmengine.hooks', 'mmdet.core.hook', 'omnidet.models'])
def test_openmmlab_s_own_modules_are_ours_already(name):
    cfg = dict(custom_imports=dict(imports=[name]))
    assert wanted(cfg) == [] and explain(cfg) == ''


def test_a_project_beside_mmdetection_is_named_as_what_it_is(write, tmp_path):
    cfg = load_config(write('cfg.py', "custom_imports = dict(imports=['projects.Wonder.wonder'])\n"
                                      "model = dict(type='WonderNet')"))
    with pytest.raises(ConfigError, match=r'projects\.Wonder\.wonder is one of the projects that lie beside MMDet'):
        check(cfg)
    with pytest.raises(ConfigError, match=r'there is no such module.*one of the projects'):
        load_config(tmp_path / 'cfg.py', trust=True)
    write('projects/Wonder/wonder.py', 'X = 1')    # a clone: then it is a module like others
    with pytest.raises(ConfigError, match=r'projects\.Wonder\.wonder would be imported'):
        check(cfg)


def test_a_file_that_lay_among_mmdetection_s_own_is_asked_for_where_a_part_is_missing():
    cfg = dict(custom_imports=dict(imports=['mmdet.models.necks.my_pyramid']), model=dict(type='MyPyramid'))
    with pytest.raises(ConfigError, match=r'name the file: --import path/to/my_pyramid\.py'):
        check(cfg)


def test_a_module_that_is_missing_is_an_error_unless_that_is_allowed(write):
    text = "custom_imports = dict(imports='no_such_module_anywhere', allow_failed_imports={})"
    load_config(write('a.py', text.format(True)), trust=True)
    with pytest.raises(ConfigError, match='no_such_module_anywhere: there is no such module'):
        load_config(write('a.py', text.format(False)), trust=True)
    with pytest.raises(ConfigError, match='custom_imports is a dict such as'):
        load_config(write('a.py', 'custom_imports = 3'), trust=True)


def test_what_is_wrong_in_a_module_is_said_with_its_line(write):
    write('my_parts_of_a_test.py', 'a = 1\nb = a + missing_name\n')
    with pytest.raises(ConfigError, match=r'my_parts_of_a_test\.py:2: NameError: .*missing_name'):
        load_config(write('a.py', "custom_imports = 'my_parts_of_a_test'"), trust=True)
