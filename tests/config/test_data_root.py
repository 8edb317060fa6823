"""`--data-root` moves data sets and evaluators together, and says what it misses."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnidet.config.data_root import iter_datasets, set_data_root
from omnidet.errors import DatasetError


def coco_config() -> dict:
    """As the COCO configs of the zoo look once resolved."""
    def loader(split: str) -> dict:
        return dict(batch_size=2, dataset=dict(
            type='CocoDataset', data_root='data/coco/', ann_file=f'annotations/instances_{split}2017.json',
            data_prefix=dict(img=f'{split}2017/')))
    evaluator = dict(type='CocoMetric', ann_file='data/coco/annotations/instances_val2017.json', metric='bbox')
    return dict(data_root='data/coco/', train_dataloader=loader('train'), val_dataloader=loader('val'),
                test_dataloader=loader('val'), val_evaluator=evaluator, test_evaluator=dict(evaluator))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / 'my' / 'coco'
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (root / 'annotations' / f'instances_{split}2017.json').write_text('{}')
    return root


def test_every_data_set_and_evaluator_moves(coco):
    cfg = coco_config()
    set_data_root(cfg, coco)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader']['dataset']
        assert dataset['data_root'] == f'{coco}/'
        assert dataset['data_prefix']['img'] in ('train2017/', 'val2017/')
        assert dataset['ann_file'].startswith('annotations/instances_')
    for split in ('val', 'test'):
        assert cfg[f'{split}_evaluator']['ann_file'] == f'{coco}/annotations/instances_val2017.json'


def test_an_evaluator_follows_the_annotation_file_of_its_data_set(coco):
    cfg = coco_config()
    (coco / 'mine.json').write_text('{}')
    cfg['val_dataloader']['dataset']['ann_file'] = 'mine.json'
    set_data_root(cfg, coco)
    assert cfg['val_evaluator']['ann_file'] == f'{coco}/mine.json'
    assert cfg['test_evaluator']['ann_file'] == f'{coco}/annotations/instances_val2017.json'


def test_data_sets_inside_wrappers_move(coco):
    cfg = coco_config()
    inner = cfg['train_dataloader']['dataset']
    other = dict(inner, data_root='data/other/')
    cfg['train_dataloader']['dataset'] = dict(
        type='RepeatDataset', times=3, dataset=dict(type='ConcatDataset', datasets=[inner, other]))
    set_data_root(cfg, coco)
    assert [d['data_root'] for d in iter_datasets(cfg['train_dataloader'])] == [f'{coco}/', f'{coco}/']


def test_a_root_inside_the_old_one_is_not_prefixed_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('data/coco/mine/annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        Path(f'data/coco/mine/annotations/instances_{split}2017.json').write_text('{}')
    cfg = coco_config()
    cfg['val_evaluator']['seg_prefix'] = 'data/coco/masks/'
    cfg['test_dataloader'], cfg['test_evaluator'] = cfg['val_dataloader'], cfg['val_evaluator']
    set_data_root(cfg, Path('data/coco/mine'))
    assert cfg['test_evaluator']['seg_prefix'] == 'data/coco/mine/masks/'
    assert cfg['test_evaluator']['ann_file'] == 'data/coco/mine/annotations/instances_val2017.json'
    assert cfg['test_dataloader']['dataset']['data_root'] == 'data/coco/mine/'


def test_several_evaluators_move_and_where_they_write_stays(coco):
    cfg = coco_config()
    cfg['val_evaluator'] = [cfg['val_evaluator'],
                            dict(type='CocoPanopticMetric', seg_prefix='data/coco/annotations/panoptic/',
                                 outfile_prefix='data/coco/out')]
    set_data_root(cfg, coco)
    assert cfg['val_evaluator'][0]['ann_file'] == f'{coco}/annotations/instances_val2017.json'
    assert cfg['val_evaluator'][1]['seg_prefix'] == f'{coco}/annotations/panoptic/'
    assert cfg['val_evaluator'][1]['outfile_prefix'] == 'data/coco/out'


def test_a_missing_annotation_file_is_named_beside_what_is_there(coco):
    (coco / 'annotations' / 'instances_val2017.json').unlink()
    (coco / 'boxes.json').write_text('{}')
    with pytest.raises(DatasetError) as error:
        set_data_root(coco_config(), coco, splits=('train', 'val'))
    message = str(error.value)
    assert 'the val set' in message
    assert 'expected: annotations/instances_val2017.json, val2017/' in message
    assert 'boxes.json' in message.partition('found:')[2]
    assert '--cfg-options val_dataloader.dataset.ann_file=' in message


def test_only_the_splits_that_are_used_must_be_there(coco):
    (coco / 'annotations' / 'instances_train2017.json').unlink()
    set_data_root(coco_config(), coco, splits=('test',))


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(DatasetError, match='there is no such folder'):
        set_data_root(coco_config(), tmp_path / 'nowhere')


def test_a_config_without_evaluators_or_validation_is_fine(coco):
    cfg = dict(train_dataloader=coco_config()['train_dataloader'], val_dataloader=None, val_evaluator=None)
    set_data_root(cfg, coco, splits=('train',))
    assert cfg['train_dataloader']['dataset']['data_root'] == f'{coco}/'
