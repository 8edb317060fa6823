"""`omnidet checkpoint inspect`, `convert` and `publish`, from files to files."""

from __future__ import annotations

import hashlib

import pytest
import torch

from omnidet.checkpoints import load_checkpoint
from omnidet.checkpoints.safetensors import write_safetensors
from omnidet.cli import main
from omnidet.cli.checkpoint import PROJECTS
from omnidet.data.datasets.coco_classes import COCO_CLASSES


@pytest.fixture
def rcnn(tmp_path):
    """The last layers of a torchvision model with COCO's 90 numbers."""
    numbers = torch.arange(91.)
    state = {'roi_heads.box_predictor.cls_score.weight': numbers[:, None],
             'roi_heads.box_predictor.cls_score.bias': numbers}
    torch.save(state, tmp_path / 'rcnn.pth')
    return tmp_path / 'rcnn.pth'


def _main(capsys, *argv):
    status = main(['checkpoint', *map(str, argv)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_projects_on_the_command_line_are_those_that_convert():
    from omnidet.checkpoints import peers
    assert ('auto', *peers.PROJECTS, 'timm') == PROJECTS


def test_inspect_prints_a_table(tmp_path, capsys):
    meta = {'CLASSES': ('cat',), 'mmdet_version': '2.1.0', 'epoch': 4}
    torch.save({'state_dict': {'a.w': torch.ones(3)}, 'meta': meta}, tmp_path / 'a.pth')
    status, text = _main(capsys, 'inspect', tmp_path / 'a.pth')
    assert status == 0
    for part in ('MMDetection 2.x', '1: cat', 'epoch 4', '3 and 0 in buffers', 'yes: tensors and plain data'):
        assert part in text


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_convert_keeps_cocos_classes_and_says_so_in_the_file(tmp_path, capsys, rcnn, suffix):
    out = tmp_path / f'ours{suffix}'
    status, text = _main(capsys, 'convert', rcnn, out, '--classes', 'coco')
    assert status == 0 and 'torchvision/faster-rcnn_r50_fpn_coco' in text
    content = load_checkpoint(out)
    assert content['state_dict']['roi_head.bbox_head.fc_cls.bias'].tolist()[-2:] == [90, 0]
    assert tuple(content['meta']['dataset_meta']['classes']) == COCO_CLASSES
    assert content['meta']['converted_from'] == 'torchvision Faster R-CNN'


def test_the_format_is_asked_for_by_suffix_or_by_option(tmp_path, capsys, rcnn):
    assert _main(capsys, 'convert', rcnn, tmp_path / 'a', '--to', 'safetensors')[0] == 0
    assert (tmp_path / 'a.safetensors').is_file()
    status, text = _main(capsys, 'convert', rcnn, tmp_path / 'a.pth', '--to', 'safetensors')
    assert status == 2 and 'different things' in text
    status, text = _main(capsys, 'convert', rcnn, tmp_path / 'a.npz')
    assert status == 2 and '.safetensors' in text


def test_names_without_a_place_are_listed(tmp_path, capsys):
    state = {'class_labels_classifier.weight': torch.ones(3, 1), 'model.input_projection.weight': torch.ones(1),
             'mask_head.w': torch.ones(1)}
    write_safetensors(tmp_path / 'a.safetensors', state)
    status, text = _main(capsys, 'convert', tmp_path / 'a.safetensors', tmp_path / 'b.pth', '--from', 'transformers')
    assert status == 0 and '1 names of the file have no place' in text and '  mask_head.w' in text


def test_weights_of_no_known_model_or_of_another_project_are_errors(tmp_path, capsys, rcnn):
    torch.save({'w': torch.ones(1)}, tmp_path / 'a.pth')
    status, text = _main(capsys, 'convert', tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert status == 2 and "names are like 'w'" in text and 'DETR of transformers' in text
    status, text = _main(capsys, 'convert', rcnn, tmp_path / 'b.pth', '--from', 'transformers')
    assert status == 2 and 'they are Faster R-CNN of torchvision' in text


def test_a_config_is_held_against_the_result(tmp_path, capsys, rcnn):
    config = 'torchvision/faster-rcnn_r50_fpn_coco'
    status, text = _main(capsys, 'convert', rcnn, tmp_path / 'b.pth', '--config', config)
    assert status == 2 and 'missing: backbone.conv1.weight' in text and 'fc_cls.weight (91, 1) for (91, 1024)' in text
    assert not (tmp_path / 'b.pth').exists()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_publish_leaves_weights_and_meta_under_their_hash(tmp_path, capsys, suffix):
    torch.save({'state_dict': {'a.w': torch.ones(3), 'ema_a_w': torch.zeros(3)}, 'optimizer': {}, 'meta': {'epoch': 4},
                'ema_state_dict': {'a.w': torch.zeros(3)}}, tmp_path / 'a.pth')
    status, text = _main(capsys, 'publish', tmp_path / 'a.pth', tmp_path / 'nets' / f'my{suffix}')
    assert status == 0 and 'left out: optimizer, ema_state_dict, 1 ema_*' in text
    published, = (tmp_path / 'nets').iterdir()
    assert published.name == f'my-{hashlib.sha256(published.read_bytes()).hexdigest()[:8]}{suffix}'
    content = load_checkpoint(published)
    assert content.keys() == {'state_dict', 'meta'} and content['meta']['epoch'] == 4
    assert list(content['state_dict']) == ['a.w'] and content['state_dict']['a.w'].tolist() == [1, 1, 1]


def test_help_names_the_actions(capsys):
    with pytest.raises(SystemExit):
        main(['checkpoint', '--help'])
    text = capsys.readouterr().out
    assert all(name in text for name in ('inspect', 'convert', 'publish'))


def test_weights_with_cocos_80_classes_keep_them_all(tmp_path, capsys):
    torch.save({'backbone.lateral_conv0.conv.weight': torch.ones(1), 'head.cls_preds.0.weight': torch.ones(80, 1)},
               tmp_path / 'yolox.pth')
    assert _main(capsys, 'convert', tmp_path / 'yolox.pth', tmp_path / 'a.pth', '--classes', 'coco')[0] == 0
    content = load_checkpoint(tmp_path / 'a.pth')
    assert len(content['state_dict']['bbox_head.multi_level_conv_cls.0.weight']) == 80
    assert content['meta']['dataset_meta']['classes'] == COCO_CLASSES
