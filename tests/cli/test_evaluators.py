"""`--eval`, `--eval-options` and `--format-only` as they end up in a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omnidet.cli.evaluators import add_dump, evaluators_of, set_format_only, set_metrics, set_options
from omnidet.errors import ConfigError


def coco(**more: Any) -> dict[str, Any]:
    return dict(type='CocoMetric', ann_file='a.json', metric=['bbox'], **more)


def test_eval_sets_the_metric_whatever_the_config_says():
    cfg = dict(test_evaluator=coco(format_only=True, outfile_prefix='x'))
    set_metrics(cfg, 'test', ['segm', 'proposal'])
    assert cfg['test_evaluator'] == [dict(type='CocoMetric', ann_file='a.json', metric=['segm', 'proposal'],
                                          outfile_prefix='x')]
    voc = dict(val_evaluator=dict(type='mmdet.VOCMetric', metric='mAP'))
    set_metrics(voc, 'val', ['recall'])
    assert voc['val_evaluator'][0]['metric'] == 'recall'


def test_eval_keeps_the_evaluators_that_compute_what_it_names():
    panoptic = dict(type='CocoPanopticMetric', ann_file='p.json')
    cfg = dict(test_evaluator=[panoptic, coco()])
    set_metrics(cfg, 'test', ['PQ'])
    assert cfg['test_evaluator'] == [panoptic]
    cfg = dict(test_evaluator=[panoptic, coco()])
    set_metrics(cfg, 'test', ['pq', 'segm'])    # as 2.x's users type it
    assert cfg['test_evaluator'] == [panoptic, {**coco(), 'metric': ['segm']}]


def test_an_evaluator_of_the_user_s_takes_any_name():
    cfg = dict(test_evaluator=dict(type='MyMetric'))
    set_metrics(cfg, 'test', ['anything'])
    assert cfg['test_evaluator'] == [dict(type='MyMetric', metric=['anything'])]


@pytest.mark.parametrize(('names', 'expected'), [
    (['boxes'], r'--eval boxes: .*CocoMetric\) computes bbox, segm'), (['bbx'], "did you mean 'bbox'"),
    (['mAP'], 'computes bbox')])
def test_eval_of_what_no_evaluator_computes_is_told_with_what_they_do(names, expected):
    with pytest.raises(ConfigError, match=expected):
        set_metrics(dict(test_evaluator=coco()), 'test', names)


def test_options_reach_the_evaluators_that_take_them_under_2_x_s_names_too():
    original = coco()
    cfg = dict(test_evaluator=[original, dict(type='VOCMetric')])
    set_options(cfg, 'test', ['classwise=True', 'iou_thr=[0.5,0.75]', 'jsonfile_prefix=out/r', 'nproc=4'])
    assert cfg['test_evaluator'] == [coco(classwise=True, iou_thrs=[0.5, 0.75], outfile_prefix='out/r'),
                                     dict(type='VOCMetric', iou_thrs=[0.5, 0.75])]
    assert original == coco()    # a dict that val_evaluator may share
    with pytest.raises(ConfigError, match=r"--eval-options claswise: .*did you mean 'classwise'"):
        set_options(cfg, 'test', ['claswise=True'])
    with pytest.raises(ConfigError, match='--eval-options classwise: an option is written key=value'):
        set_options(cfg, 'test', ['classwise'])


def test_format_only_writes_and_keeps_a_prefix_that_is_given():
    cfg = dict(test_evaluator=[coco(), dict(type='VOCMetric')])
    set_format_only(cfg, 'test', Path('w/results'))
    assert cfg['test_evaluator'] == [coco(format_only=True, outfile_prefix='w/results')]
    cfg = dict(test_evaluator=coco(outfile_prefix='mine'))
    set_format_only(cfg, 'test', Path('w/results'))
    assert cfg['test_evaluator'][0]['outfile_prefix'] == 'mine'
    with pytest.raises(ConfigError, match=r'VOCMetric writes no results; --out results.pkl'):
        set_format_only(dict(test_evaluator=dict(type='VOCMetric')), 'test', Path('r'))


def test_a_dump_comes_beside_the_evaluators():
    cfg: dict[str, Any] = dict(test_evaluator=coco())
    add_dump(cfg, 'test', Path('r.pkl'))
    assert cfg['test_evaluator'] == [coco(), dict(type='DumpDetResults', out_file_path='r.pkl')]
    assert evaluators_of({}, 'val') == []
