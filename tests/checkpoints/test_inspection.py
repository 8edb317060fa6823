"""What is told of files of weights, harmless and not."""

from __future__ import annotations

import functools
import os

import pytest
import torch
from torch import nn

from omnidet.checkpoints import load_checkpoint, load_weights
from omnidet.checkpoints.inspection import describe_model, inspect_checkpoint
from omnidet.errors import CheckpointError


def _saved(tmp_path, content, **options):
    torch.save(content, tmp_path / 'a.pth', **options)
    return inspect_checkpoint(tmp_path / 'a.pth')


STATE = {'backbone.w': torch.ones(2, 3), 'backbone.bn.running_mean': torch.zeros(4),
         'bbox_head.w': torch.ones(5, dtype=torch.float16)}


def test_weights_are_counted_by_kind_type_and_prefix(tmp_path):
    found = _saved(tmp_path, {'state_dict': STATE})
    assert (found.parameters, found.buffers, found.dtypes) == (11, 4, {'float32': 2, 'float16': 1})
    assert found.prefixes == {'backbone': (2, 10), 'bbox_head': (1, 5)}
    assert found.weights_megabytes == pytest.approx(50e-6)
    assert (found.average, found.optimizer, found.refused) == ('no', 'no', [])


@pytest.mark.parametrize(('meta', 'kind'), [
    ({'mmdet_version': '2.24.1+fe4ffb6', 'mmcv_version': '1.3.17'}, 'MMDetection 2.x'),
    ({'mmdet_version': '1.0rc1', 'mmcv_version': '0.2.14'}, 'MMDetection 1.x'),
    ({'mmengine_version': '0.8', 'cfg': "default_scope = 'mmdet'\n"}, 'MMDetection 3.x'),
    ({'mmengine_version': '0.8', 'cfg': 'a = 1'}, 'MMEngine'), ({'omnidet_version': '0.1'}, 'OmniDet'),
    ({'mmcv_version': '1.3'}, 'MMCV'), ({}, "weights with MMDetection's names")])
def test_programs_are_known_by_their_meta_data(tmp_path, meta, kind):
    assert _saved(tmp_path, {'state_dict': STATE, 'meta': meta}).kind == kind


@pytest.mark.parametrize(('names', 'kind', 'config'), [
    (['conv1.weight', 'layer1.0.conv1.weight'], 'a ResNet as torchvision and timm name it', ''),
    (['roi_heads.box_predictor.cls_score.weight'], 'Faster R-CNN of torchvision',
     'torchvision/faster-rcnn_r50_fpn_coco'),
    (['class_labels_classifier.weight', 'model.input_projection.weight'], 'DETR of transformers',
     'detr/detr_r50_8xb2-150e_coco'), (['w'], 'a state dict', '')])
def test_other_projects_are_known_by_their_names(tmp_path, names, kind, config):
    found = _saved(tmp_path, {n: torch.ones(1) for n in names})
    assert (found.kind, found.config) == (kind, config)


def test_progress_versions_classes_and_model(tmp_path):
    text = "model = dict(neck=dict(type='FPN'), type='ATSS', backbone={'type': 'ResNet', 'depth': 50}, x=open('y'))"
    found = _saved(tmp_path, {'state_dict': STATE, 'optimizer': {'state': {0: 1}, 'param_groups': [{}]}, 'meta': {
        'epoch': 3, 'iter': 40, 'CLASSES': ('cat', 'dog'), 'mmdet_version': '2.9.0', 'config': text}})
    assert found.classes == ('cat', 'dog') and found.versions == {'mmdet': '2.9.0'}
    assert found.progress == {'epoch': 3, 'iter': 40}
    assert found.optimizer == 'yes, of 1 tensors in 1 groups'
    assert found.model == 'ATSS + FPN + ResNet-50'


@pytest.mark.parametrize('text', ['', 'model = 3', 'model = dict(', '(' * 5000, 'model = dict(**x)', 'model = {**x}'])
def test_texts_that_are_no_configs_name_no_model(text):
    assert describe_model(text) == ''


def test_averages_of_both_series_are_known(tmp_path):
    assert 'ema_state_dict' in _saved(tmp_path, {'state_dict': STATE, 'ema_state_dict': STATE}).average
    both = {'a.b': torch.ones(1), 'ema_a_b': torch.ones(1), 'ema_other': torch.ones(1)}
    assert '1 tensors are beside' in _saved(tmp_path, both).average


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('zipped', [True, False])
def test_what_would_run_is_named_and_does_not_run(tmp_path, zipped):
    found = _saved(tmp_path, {'state_dict': STATE, 'x': Evil(tmp_path / 'made'), 'y': functools.partial(print)},
                   _use_new_zipfile_serialization=zipped)
    assert found.refused == [f'{os.name}.mkdir', 'functools.partial', 'builtins.print']
    assert found.parameters == 11 and not (tmp_path / 'made').exists()
    with pytest.raises(CheckpointError, match='mkdir'):
        load_checkpoint(tmp_path / 'a.pth')


def test_a_whole_model_is_told_by_its_classes(tmp_path):
    found = _saved(tmp_path, nn.Sequential(nn.Linear(2, 2)))
    assert found.kind == 'objects pickled with their classes'
    assert found.refused == ['torch.nn.modules.container.Sequential', 'torch.nn.modules.linear.Linear']


def test_files_that_are_no_checkpoints_are_errors(tmp_path):
    (tmp_path / 'a.pth').write_bytes(b'\x80\x02junk')
    with pytest.raises(CheckpointError, match='damaged'):
        inspect_checkpoint(tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='no weights'):
        _saved(tmp_path, {'meta': {}})


def test_loading_weights_of_another_project_says_how_they_become_ours():
    state = {'class_labels_classifier.weight': torch.ones(1), 'model.input_projection.weight': torch.ones(1)}
    with pytest.raises(CheckpointError, match='DETR of transformers; `omnidet checkpoint convert`'):
        load_weights(nn.Linear(1, 1), state, 'a.pth')
    with pytest.raises(CheckpointError, match=r'missing in the file: 0\.bias\n(.*\n)?These weights are DETR'):
        load_weights(nn.Sequential(nn.Linear(1, 1)), {**state, '0.weight': torch.ones(1, 1)}, 'a.pth', strict=True)
