"""Classes of the user's own: the error before training has the lines that the config needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnidet.cli.classes import check_classes
from omnidet.errors import ConfigError


def make_config(root: Path, names: list[str], **dataset) -> dict:
    (root / 'train.json').write_text(json.dumps(dict(
        images=[], annotations=[], categories=[dict(id=i, name=n) for i, n in enumerate(names)])))
    return dict(
        model=dict(type='RTMDet', bbox_head=dict(type='RTMDetSepBNHead', num_classes=80)),
        train_dataloader=dict(dataset=dict(type='CocoDataset', data_root=f'{root}/', ann_file='train.json', **dataset)),
        val_dataloader=None)


def test_other_classes_than_coco_s_are_answered_with_the_lines_to_write(tmp_path):
    cfg = make_config(tmp_path, ['person', 'helmet', 'vest'])
    with pytest.raises(ConfigError) as error:
        check_classes(cfg, ('train', 'val'))
    lines = str(error.value).splitlines()
    assert lines[0] == f"{tmp_path}/train.json has classes that the config does not know: 'helmet', 'vest'"
    assert "classes = ('person', 'helmet', 'vest')" in lines
    assert 'train_dataloader = dict(dataset=dict(metainfo=dict(classes=classes)))' in lines
    assert 'model = dict(bbox_head=dict(num_classes=3))' in lines


def test_the_lines_are_a_config_that_passes(tmp_path):
    cfg = make_config(tmp_path, ['helmet'])
    with pytest.raises(ConfigError) as error:
        check_classes(cfg, ('train',))
    lines = str(error.value).splitlines()
    namespace: dict = {}
    exec('\n'.join(lines[lines.index("_base_ = 'the config that you gave'"):]), namespace)
    cfg['train_dataloader']['dataset'].update(namespace['train_dataloader']['dataset'])
    check_classes(cfg, ('train',))
    assert namespace['model'] == dict(bbox_head=dict(num_classes=1))


def test_lines_reach_into_wrappers_and_cascades(tmp_path):
    cfg = make_config(tmp_path, ['helmet'])
    cfg['train_dataloader']['dataset'] = dict(type='RepeatDataset', times=2, dataset=cfg['train_dataloader']['dataset'])
    cfg['model'] = dict(rpn_head=dict(num_classes=1), roi_head=dict(bbox_head=[dict(num_classes=80)]))
    with pytest.raises(ConfigError) as error:
        check_classes(cfg, ('train',))
    lines = str(error.value).splitlines()
    assert 'train_dataloader = dict(dataset=dict(dataset=dict(metainfo=dict(classes=classes))))' in lines
    assert 'model = dict(roi_head=dict(bbox_head={0: dict(num_classes=1)}))' in lines


@pytest.mark.parametrize(('names', 'dataset'), [
    (['person', 'car'], {}),
    (['helmet'], dict(metainfo=dict(classes=('helmet',)))),
    ([], {}),
])
def test_files_that_fit_pass(tmp_path, names, dataset):
    check_classes(make_config(tmp_path, names, **dataset), ('train', 'val'))


def test_a_file_that_is_no_coco_json_is_left_to_its_reader(tmp_path):
    cfg = make_config(tmp_path, [])
    (tmp_path / 'train.json').write_text('[1, 2')
    check_classes(cfg, ('train',))
