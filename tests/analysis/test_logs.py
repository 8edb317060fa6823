"""Logs of three programs are read to one form: iterations from the beginning, validations at their epochs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import pytest

from omnidet.analysis.logs import default_keys, draw_logs, find_log, read_training_log, train_time
from omnidet.errors import ConfigError, OmniDetError


def write(path: Path, records: list[dict[str, Any]], tail: str = '') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(r) + '\n' for r in records) + tail)
    return path


def ours(folder: Path) -> Path:
    """Two epochs of 40 iterations, told every 20."""
    records: list[dict[str, Any]] = []
    for epoch in (1, 2):
        records += [dict(mode='train', epoch=epoch, iter=40 * (epoch - 1) + i, lr=0.1, loss=3.0 - epoch + i / 100,
                         time=0.5 * epoch + (i == 20), data_time=0.0, memory=None, eta=1.0) for i in (20, 40)]
        records.append({'mode': 'val', 'epoch': epoch, 'iter': 40 * epoch, 'coco/bbox_mAP': epoch / 10})
    return write(folder / 'log.jsonl', records, '{"mode": "train", "ep')


def version_2(folder: Path) -> Path:
    """As MMDetection 2.x: iterations begin anew in each epoch; a first line without a mode."""
    records: list[dict[str, Any]] = [dict(env_info='x', config='y', seed=None, exp_name='a.py')]
    for epoch in (1, 2):
        records += [dict(mode='train', epoch=epoch, iter=i, lr=0.02, memory=1, data_time=0.1, loss_cls=0.5, loss=1.0,
                         time=0.4) for i in (20, 40)]
        records.append(dict(mode='val', epoch=epoch, iter=7, lr=0.02, bbox_mAP=epoch / 5, bbox_mAP_copypaste='0.1 0.2'))
    return write(folder / '20210101_000000.log.json', records)


def version_3(folder: Path) -> Path:
    """As MMDetection 3.x: no mode; a validation says its epoch as step."""
    records: list[dict[str, Any]] = []
    for epoch in (1, 2):
        records += [dict(lr=0.02, data_time=0.1, loss=1.5, loss_cls=0.6, time=0.4, epoch=epoch, iter=n, step=n)
                    for n in (40 * epoch - 20, 40 * epoch)]
        records.append({'coco/bbox_mAP': epoch / 4, 'data_time': 0.1, 'time': 0.2, 'step': epoch})
    return write(folder / '20230101_120000/vis_data/scalars.json', records)


@pytest.mark.parametrize(('make', 'scores'), [(ours, [0.1, 0.2]), (version_2, [0.2, 0.4]), (version_3, [0.25, 0.5])])
def test_logs_of_all_programs_have_the_same_places(make, scores, tmp_path):
    make(tmp_path / 'my_run')
    log = read_training_log(tmp_path / 'my_run')
    assert log.name == 'my_run'
    assert log.curve('loss').iterations == [20, 40, 60, 80]
    assert log.curve('loss').epochs == [1, 1, 2, 2] and log.curve('loss').training
    score = log.curve('bbox_mAP')
    assert (score.iterations, score.epochs, score.values, score.training) == ([40, 80], [1, 2], scores, False)
    assert default_keys([log]) == ['loss', log.find('bbox_mAP')]


def test_a_run_that_counts_iterations_is_not_cut_into_epochs(tmp_path):
    records: list[dict[str, Any]] = []
    for n in (100, 200, 300, 400):
        records.append(dict(lr=0.1, loss=1.0, time=0.1, iter=n, step=n))
        if n % 200 == 0:
            records.append({'coco/bbox_mAP': n / 1000, 'step': n})
    log = read_training_log(write(tmp_path / 'run/vis_data/scalars.json', records))
    assert log.curve('loss').iterations == [100, 200, 300, 400]
    assert log.curve('coco/bbox_mAP').iterations == [200, 400]
    assert log.curve('coco/bbox_mAP').epochs == [None, None]
    two = [dict(mode='train', epoch=1 + n // 250, iter=n, loss=1.0, time=0.1, lr=1) for n in (100, 200, 300, 400)]
    assert read_training_log(write(tmp_path / 'a.log.json', two)).curve('loss').iterations == [100, 200, 300, 400]


def test_the_newest_log_of_a_folder_is_taken(tmp_path):
    old, new = (write(tmp_path / f'{n}.log.json', [dict(mode='train', epoch=1, iter=1, loss=n)]) for n in (1, 2))
    os.utime(old, (1e9, 1e9))
    assert find_log(tmp_path) == new
    (tmp_path / 'empty').mkdir()
    with pytest.raises(OmniDetError, match='has no log'):
        find_log(tmp_path / 'empty')
    with pytest.raises(OmniDetError, match='does not exist'):
        find_log(tmp_path / 'none')
    (tmp_path / 'text.py').write_text('x = 1\n')
    with pytest.raises(OmniDetError, match='no log of a training'):
        read_training_log(tmp_path / 'text.py')


def test_curves_of_several_logs_go_into_one_picture(tmp_path):
    logs = [read_training_log(make(tmp_path / make.__name__)) for make in (ours, version_2, version_3)]
    assert draw_logs(tmp_path / 'c.png', logs, ['loss', 'bbox_mAP']) == ['loss', 'bbox_mAP']
    both = cv2.imread(str(tmp_path / 'c.png'))
    assert draw_logs(tmp_path / 'd.png', logs, ['loss'], ['a', 'b', 'c'], title='t', style='darkgrid') == ['loss']
    one = cv2.imread(str(tmp_path / 'd.png'))
    assert both is not None and one is not None and both.shape[1] > 1.9 * one.shape[1]
    draw_logs(tmp_path / 'c.pdf', logs)
    assert (tmp_path / 'c.pdf').read_bytes().startswith(b'%PDF')


@pytest.mark.parametrize(('options', 'expected'), [
    (dict(keys=['los']), r"has no 'los'; did you mean 'loss'\?"),
    (dict(keys=['loss'], legend=['a', 'b']), '--legend has 2 names for 1 curves: ours loss'),
    (dict(style='darkgid'), "did you mean 'darkgrid'"),
])
def test_what_cannot_be_drawn_is_told_with_the_nearest_match(options, expected, tmp_path):
    log = read_training_log(ours(tmp_path / 'ours'))
    with pytest.raises(ConfigError, match=expected):
        draw_logs(tmp_path / 'c.png', [log], **options)


def test_times_leave_the_first_record_of_an_epoch_out_unless_it_is_asked_for(tmp_path):
    log = read_training_log(ours(tmp_path))
    found = train_time(log)
    assert (found.epochs, found.mean, found.std) == ({1: 0.5, 2: 1.0}, 0.75, 0.25)
    assert (found.slowest, found.fastest) == (2, 1)
    assert train_time(log, include_outliers=True).epochs == {1: 1.0, 2: 1.5}
