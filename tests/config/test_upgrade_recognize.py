"""Which files are of MMDetection 2.x, which of 3.x, and which options are said of which form."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap

import pytest

from omnidet.config import load_config
from omnidet.config.upgrade import is_legacy
from omnidet.errors import ConfigError

OLD = """
    model = dict(type='ATSS', backbone=dict(type='ResNet', depth=50))
    data = dict(samples_per_gpu=2, workers_per_gpu=1, train=dict(type='CocoDataset', ann_file='a.json', pipeline=[]))
    optimizer = dict(type='SGD', lr=0.1)
    lr_config = dict(policy='fixed')
    runner = dict(type='EpochBasedRunner', max_epochs=3)
"""


@pytest.mark.parametrize('cfg', [
    dict(lr_config=dict(policy='step', step=[8])), dict(checkpoint_config=dict(interval=1)), dict(total_epochs=12),
    dict(log_config=dict(interval=50)), dict(optimizer_config=dict(grad_clip=None)), dict(workflow=[('train', 1)]),
    dict(dist_params=dict(backend='nccl')), dict(runner=dict(max_epochs=12)), dict(evaluation=dict(metric='bbox')),
    dict(data=dict(samples_per_gpu=2)), dict(data=dict(imgs_per_gpu=2)), dict(data=dict(train=dict(type='D'))),
    dict(data=dict(train=[dict(type='D')])), dict(data=dict(test_dataloader=dict(samples_per_gpu=2))),
])
def test_one_entry_of_2x_tells(cfg):
    assert is_legacy(cfg)


@pytest.mark.parametrize('cfg', [
    dict(), dict(model=dict()), dict(data=dict(data_root='x', metainfo=dict())), dict(data='x'), dict(runner='me'),
    dict(evaluation='daily'), dict(optimizer=dict(type='SGD', lr=0.1)), dict(lr_config=0.1), dict(workflow='ours'),
    dict(total_epochs=12, train_cfg=dict(max_epochs=12)),
    dict(data=dict(train=dict(type='D')), train_dataloader=dict(dataset=dict(type='D'))),
])
def test_names_that_a_file_of_3x_may_have_tell_nothing(cfg):
    assert not is_legacy(cfg)


def test_a_file_of_3x_with_such_names_stays_as_it_is(load):
    text = """
        _base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco'
        data = dict(train=dict(ann_file='x.json'), samples_per_gpu=7)
        runner = dict(max_epochs=3)
        evaluation = dict(interval=2)
        total_epochs = 3
        train_cfg = dict(max_epochs=total_epochs)
    """
    cfg = load(text)
    assert cfg.changes == ()
    assert (cfg.data.samples_per_gpu, cfg.runner.max_epochs, cfg.train_dataloader.batch_size) == (7, 3, 2)


def test_what_is_left_of_2x_over_a_file_of_3x_of_ones_own_is_not_read(write):
    write('base.py', "train_dataloader = dict(batch_size=2)\ntrain_cfg = dict(max_epochs=12)")
    cfg = load_config(write('child.py', "_base_ = 'base.py'\ndata = dict(train=dict(ann_file='x.json'))"))
    assert cfg.changes == () and cfg.train_dataloader == dict(batch_size=2)


def test_options_are_said_of_the_form_that_their_key_belongs_to(load):
    cfg = load(OLD, overrides=['data.samples_per_gpu=4', 'data.train.ann_file=b.json', 'optimizer.lr=1e-3',
                               'runner.max_epochs=1', 'evaluation.interval=5', 'train_dataloader.num_workers=9',
                               'model.backbone.depth=18', 'model.pretrained=None', 'fp16.loss_scale=512.'])
    loader = cfg.train_dataloader
    assert (loader.batch_size, loader.dataset.ann_file, loader.num_workers) == (4, 'b.json', 9)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.type) == (0.001, 'AmpOptimWrapper')
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (1, 5)
    assert cfg.model == dict(type='ATSS', backbone=dict(type='ResNet', depth=18))


def test_options_in_a_dict_are_parted_likewise(load):
    cfg = load(OLD, overrides={'data.samples_per_gpu': 4, 'train_dataloader.num_workers': 9})
    assert (cfg.train_dataloader.batch_size, cfg.train_dataloader.num_workers) == (4, 9)


def test_an_option_makes_no_file_of_3x_one_of_2x(load):
    cfg = load('model = dict(type="ATSS")', overrides=['runner.max_epochs=3'])
    assert cfg == dict(model=dict(type='ATSS'), runner=dict(max_epochs=3)) and cfg.changes == ()


def test_changes_go_along_with_copies(load):
    cfg = load(OLD)
    assert ('data.samples_per_gpu', 'train_dataloader.batch_size', '') in cfg.changes
    assert cfg.copy().changes == pickle.loads(pickle.dumps(cfg)).changes == cfg.changes


def test_values_keep_the_line_that_they_were_written_in(load):
    cfg = load(OLD)
    lines = {path: cfg.origin(path).line for path in [
        ('train_dataloader', 'batch_size'), ('train_dataloader', 'dataset', 'ann_file'), ('train_cfg', 'max_epochs'),
        ('optim_wrapper', 'optimizer', 'lr'), ('model', 'backbone', 'depth')]}
    assert list(lines.values()) == [3, 3, 6, 4, 2]


def test_an_upgrade_does_not_import_torch(write):
    path = write('old.py', OLD)
    code = f'import sys, omnidet; assert omnidet.load_config({str(path)!r}).changes; assert "torch" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize(('line', 'message'), [
    ('data = 3', r'old.py:7: data: this is a dict in MMDetection 2.x; found 3'),
    ('data = dict(samples_per_gpu=1, train=7)', 'old.py: data: MMDetection 2.x has nothing of this form'),
    ('runner = [1]', 'old.py:7: runner: this is a dict'),
    ('evaluation = dict(interval=1, metric=dict(a=1), save_best=3)\ncustom_hooks = [3]', None),
])
def test_damage_is_told_in_one_message(write, line, message):
    path = write('old.py', textwrap.dedent(OLD) + line)
    if message is None:
        load_config(path)
        return
    with pytest.raises(ConfigError, match=message):
        load_config(path)
