"""Which file a name stands for."""

from __future__ import annotations

import pytest

from omnidet.config import find_config, load_config, zoo_names
from omnidet.config.resolve import ZOO
from omnidet.errors import ConfigError

TINY = 'rtmdet/rtmdet_tiny_8xb32-300e_coco'


@pytest.mark.parametrize('name', [
    TINY, f'{TINY}.py', f'mmdet::{TINY}.py', f'omnidet::{TINY}', f'configs/{TINY}.py', f'../{TINY}.py',
    'rtmdet/rtmdet_tiny', 'rtmdet_tiny', 'rtmdet/rtmdet_tiny_8xb32_300e_coco', 'rtmdet/rtmdet-tiny',
    'RTMDet/rtmdet_tiny',
])
def test_spellings_of_a_zoo_name_mean_one_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == ZOO / f'{TINY}.py'


@pytest.mark.parametrize('old, new', [
    ('faster_rcnn/faster_rcnn_r50_fpn_1x_coco', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco'),
    ('detr/detr_r50_8x2_150e_coco.py', 'detr/detr_r50_8xb2-150e_coco'),
    ('dcn/faster_rcnn_r50_fpn_dconv_c3-c5_1x_coco', 'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco'),
    ('mmdet::solov2/solov2_r50_fpn_3x_coco.py', 'solov2/solov2_r50_fpn_ms-3x_coco'),
    ('../faster_rcnn/faster_rcnn_r50_fpn_fp16_1x_coco.py', 'faster_rcnn/faster-rcnn_r50_fpn_amp-1x_coco'),
])
def test_names_of_the_2x_zoo_are_known(old, new):
    assert find_config(old) == ZOO / f'{new}.py'


def test_a_models_whole_name_is_no_beginning_of_a_longer_one():
    assert find_config('rtmdet/rtmdet_x').stem == 'rtmdet_x_8xb32-300e_coco'
    assert find_config('rtmdet/rtmdet_x_p6').stem == 'rtmdet_x_p6_4xb8-300e_coco'


def test_an_ambiguous_beginning_lists_what_it_may_mean():
    with pytest.raises(ConfigError, match=r'may be any of .*rtmdet/rtmdet_l_8xb32-300e_coco, .*rtmdet/rtmdet_m_8xb32-'):
        find_config('rtmdet/rtmdet')


def test_a_miss_proposes_near_names_of_files_and_of_the_zoo(write):
    near = write('exp/my_config.py', 'a = 1')
    with pytest.raises(ConfigError, match=r"there is no config .*my_confg\.py', neither .*my_config\.py"):
        find_config(near.with_name('my_confg.py'))
    with pytest.raises(ConfigError, match=r'near are .*rtmdet/rtmdet_tiny_8xb32-300e_coco'):
        find_config('rtmdet/rtmdet_tinny')
    with pytest.raises(ConfigError, match="no zoo 'mmpose'"):
        find_config('mmpose::a/b.py')


def test_the_working_directory_comes_before_the_naming_file_and_that_before_the_zoo(write, tmp_path, monkeypatch):
    named_in = write('project/configs/a/exp.py', '')
    in_tree = write('project/configs/teacher.py', '')
    monkeypatch.chdir(write('elsewhere/x.py', '').parent)
    assert find_config('configs/teacher.py', named_in) == in_tree
    assert find_config('teacher.py', named_in).resolve() == in_tree
    in_cwd = write('elsewhere/teacher.py', '')
    assert find_config('teacher.py', named_in).resolve() == in_cwd
    assert find_config(TINY, named_in) == ZOO / f'{TINY}.py'


def test_a_base_beside_the_file_comes_first_and_a_missing_one_is_taken_from_the_zoo(write, monkeypatch):
    monkeypatch.chdir(write('elsewhere/base.py', 'a = "cwd"').parent)
    write('project/base.py', 'a = "beside"')
    assert load_config(write('project/exp.py', "_base_ = 'base.py'")).a == 'beside'
    cfg = load_config(write('project/my/exp.py', "_base_ = ['../_base_/default_runtime.py']"))
    assert cfg.default_scope == 'mmdet'
    cfg = load_config(write('project/my/exp.py', "_base_ = 'mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py'"))
    assert cfg.model.type == 'RTMDet'


def test_zoo_names_are_names_that_are_found():
    names = zoo_names()
    assert TINY in names and not [n for n in names if '_base_' in n]
    assert all(find_config(n).is_file() for n in names)
