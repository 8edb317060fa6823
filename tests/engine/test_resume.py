"""Trainings that MMEngine and mmcv left go on here as if they had never stopped."""

from __future__ import annotations

import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train import losses, names, run
from tiny_parts import tiny_cfg

from omnidet.engine import build_optimizer, load_checkpoint
from omnidet.engine.resume import best_of
from omnidet.errors import CheckpointError
from omnidet.models import build_model

SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3)
ADAMW = dict(type='AdamW', lr=0.05, weight_decay=0.05)
PARAMWISE = dict(norm_decay_mult=0.0, bias_lr_mult=2.0, custom_keys={'bbox_head': dict(lr_mult=0.5)})
EMA = dict(type='ExpMomentumEMA', momentum=0.01, gamma=5)


def cfg_of(optimizer: dict[str, Any], paramwise: Any = None, ema: bool = False, **more: Any) -> dict[str, Any]:
    """A training whose dropout is off, since MMEngine keeps no states of random numbers."""
    model = dict(type='TinyDetector', bbox_head=dict(type='TinyHead', num_classes=3), drop_rate=0.0,
                 data_preprocessor=dict(type='DetDataPreprocessor'))
    hooks = [dict(EMA, ema_type=EMA['type'], type='EMAHook', priority=49)] if ema else []
    optim = dict(type='OptimWrapper', optimizer=dict(optimizer), paramwise_cfg=paramwise)
    return tiny_cfg(model=model, optim_wrapper=optim, custom_hooks=hooks, **more)


def theirs(path: Path, cfg: dict[str, Any], one_each: bool) -> dict[str, Any]:
    """One of our checkpoints as MMEngine would have written it, for a model whose parts are in another order.

    Args:
        path: ours.
        cfg: its config.
        one_each: a group for each parameter, as MMEngine makes them of a `paramwise_cfg`.
    """
    ours = load_checkpoint(path)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    name_of = {id(p): n for n, p in model.named_parameters()}
    number_of, settings = {}, {}
    for group, numbered in zip(optimizer.param_groups, ours['optimizer']['param_groups'], strict=True):
        for p, number in zip(group['params'], numbered['params'], strict=True):
            number_of[name_of[id(p)]] = number
            settings[name_of[id(p)]] = {k: v for k, v in numbered.items() if k != 'params'}
    order = sorted(model.state_dict(), reverse=True)    # stem, norm, bbox_head
    parameters = [n for n in order if n in number_of]
    state = {i: ours['optimizer']['state'][number_of[n]] for i, n in enumerate(parameters)}
    groups = [dict(settings[n], params=[i]) for i, n in enumerate(parameters)]
    if not one_each:
        groups = [dict(settings[parameters[0]], params=list(range(len(parameters))))]
    out = {'meta': {'epoch': ours['meta']['epoch'], 'iter': ours['meta']['iter'], 'seed': 0, 'cfg': 'model = dict()',
                    'dataset_meta': {'CLASSES': ('a', 'b', 'c')}, 'mmengine_version': '0.10.4'},
           'state_dict': OrderedDict((n, ours['state_dict'][n]) for n in order),
           'optimizer': {'state': state, 'param_groups': groups},
           'param_schedulers': [{'last_step': 3, '_global_step': 4, 'begin': 0}],
           'message_hub': {'log_scalars': {}, 'runtime_info': {'epoch': 0, 'last_ckpt': 'epoch_1.pth'},
                           'resumed_keys': {}}}
    if 'ema_state_dict' in ours:
        raw = ours['ema_state_dict']
        out['ema_state_dict'] = OrderedDict([('steps', raw['steps']), *((f'module.{n}', raw[f'module.{n}'])
                                                                       for n in order)])
    return out


def assert_equal_runs(whole: Path, parts: Path) -> None:
    assert losses(parts) == {k: v for k, v in losses(whole).items() if k > 3}
    a, b = (load_checkpoint(folder / 'epoch_3.pth') for folder in (whole, parts))
    for part in ('state_dict', *(['ema_state_dict'] if 'ema_state_dict' in a else [])):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part]), part


@pytest.mark.parametrize(('optimizer', 'paramwise', 'ema'), [
    (SGD, None, False), (SGD, PARAMWISE, True), (ADAMW, None, True), (ADAMW, PARAMWISE, False)])
def test_a_training_of_mmengine_goes_on_as_if_it_had_never_stopped(tmp_path, optimizer, paramwise, ema):
    cfg = cfg_of(optimizer, paramwise, ema)
    run(cfg, tmp_path / 'whole')
    torch.save(theirs(tmp_path / 'whole' / 'epoch_1.pth', cfg, paramwise is not None), tmp_path / 'epoch_1.pth')
    run(cfg, tmp_path / 'parts', resume=tmp_path / 'epoch_1.pth', seed=None)
    assert_equal_runs(tmp_path / 'whole', tmp_path / 'parts')


@pytest.mark.parametrize('ema', [False, True])
def test_a_training_of_2x_goes_on_as_if_it_had_never_stopped(tmp_path, ema):
    cfg = cfg_of(SGD, PARAMWISE, ema)
    run(cfg, tmp_path / 'whole')
    content = theirs(tmp_path / 'whole' / 'epoch_1.pth', cfg, True)
    meta = {'epoch': 1, 'iter': 3, 'seed': 0, 'CLASSES': ('a', 'b', 'c'), 'mmdet_version': '2.28.0', 'hook_msgs': {}}
    state = content['state_dict']
    if ema:    # the average under the model's names, and what is trained beside it
        raw = content['ema_state_dict']
        state = {**{f'ema_{n.replace(".", "_")}': raw[f'module.{n}'] for n in state}, **state}
    (tmp_path / 'parts').mkdir()
    torch.save({'meta': meta, 'state_dict': state, 'optimizer': content['optimizer']}, tmp_path / 'parts/latest.pth')
    run(cfg, tmp_path / 'parts', resume=True, seed=None)
    assert_equal_runs(tmp_path / 'whole', tmp_path / 'parts')


def test_groups_that_name_their_parameters_are_taken_by_name(tmp_path):
    cfg = cfg_of(ADAMW)
    run(cfg, tmp_path / 'whole')
    content = theirs(tmp_path / 'whole' / 'epoch_1.pth', cfg, False)
    order = [n for n in content['state_dict'] if 'running' not in n and 'tracked' not in n]
    split = [order[1::2], order[::2]]    # as MMDetection's decay of rates groups them, in an order of its own
    group = content['optimizer']['param_groups'][0]
    content['optimizer']['param_groups'] = [
        dict(group, params=[order.index(n) for n in part], param_names=part) for part in split]
    torch.save(content, tmp_path / 'epoch_1.pth')
    run(cfg, tmp_path / 'parts', resume=tmp_path / 'epoch_1.pth')
    assert_equal_runs(tmp_path / 'whole', tmp_path / 'parts')


def _broken(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    optimizer = content['optimizer']
    if kind == 'number':
        optimizer['param_groups'].pop()
    elif kind == 'shape':
        optimizer['state'][0]['momentum_buffer'] = torch.zeros(9, 9)
    elif kind == 'kind':
        optimizer['param_groups'] = [{k: v for k, v in g.items() if k != 'momentum'} | {'betas': (0.9, 0.99)}
                                     for g in optimizer['param_groups']]
    elif kind == 'groups':
        optimizer['param_groups'] = [dict(optimizer['param_groups'][0], params=[0, 1, 2]),
                                     dict(optimizer['param_groups'][0], params=[3, 4, 5])]
    elif kind == 'several':    # MMEngine's OptimWrapperDict
        content['optimizer'] = {'generator': optimizer}
    else:
        content['state_dict'].pop('norm.weight')
    return content


@pytest.mark.parametrize(('kind', 'words'), [
    ('number', r'it has 5 parameters, the model 6'),
    ('shape', r'momentum_buffer of stem\.weight has the shape \(9, 9\)'),
    ('kind', r"it has betas, the config's optimizer momentum"), ('groups', 'do not say which'),
    ('several', 'no groups of parameters'), ('weights', r'norm\.weight|6 parameters, the model 5')])
def test_what_cannot_go_on_says_why_and_names_the_way_out(tmp_path, kind, words):
    cfg = cfg_of(SGD)
    run(cfg, tmp_path / 'whole')
    content = theirs(tmp_path / 'whole' / 'epoch_1.pth', cfg, True)
    torch.save(_broken(kind, content), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=rf'a\.pth: .*({words}).*--load-from'):
        run(cfg, tmp_path / 'parts', resume=tmp_path / 'a.pth')


def test_the_best_score_so_far_is_known(tmp_path, monkeypatch):
    """MMEngine notes it in its message hub: a better score of before is not beaten by a worse one of now."""
    for name in ('mmengine', 'mmengine.logging', 'mmengine.logging.history_buffer'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.array([0.5])
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = 'mmengine.logging.history_buffer', 'HistoryBuffer'
    monkeypatch.setattr(sys.modules['mmengine.logging.history_buffer'], 'HistoryBuffer', HistoryBuffer, raising=False)
    cfg = cfg_of(SGD, val_evaluator=dict(type='TinyMetric', script=[0.4, 0.3]),
                 default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='tiny/score')))
    run(cfg_of(SGD), tmp_path / 'whole')
    content = theirs(tmp_path / 'whole' / 'epoch_1.pth', cfg, False)
    content['message_hub']['log_scalars']['train/loss'] = HistoryBuffer()
    content['message_hub']['runtime_info'] |= {'best_score': np.float64(0.35), 'best_ckpt': '/gone/best_epoch_1.pth'}
    torch.save(content, tmp_path / 'epoch_1.pth')
    run(cfg, tmp_path / 'better', resume=tmp_path / 'epoch_1.pth')
    assert names(tmp_path / 'better', 'best*') == {'best_tiny_score_epoch_2.pth'}
    content['message_hub']['runtime_info']['best_score'] = 0.45
    torch.save(content, tmp_path / 'epoch_1.pth')
    cfg['val_evaluator']['script'] = [0.4, 0.3]
    run(cfg, tmp_path / 'worse', resume=tmp_path / 'epoch_1.pth')
    assert names(tmp_path / 'worse', 'best*') == set()


def test_best_scores_of_both_series_and_of_several_metrics():
    meta = {'hook_msgs': {'best_score': 0.5, 'best_ckpt': 'work\\best_bbox_mAP_epoch_3.pth'}}
    assert best_of({'meta': meta}, ['bbox_mAP']) == {'bbox_mAP': (0.5, 'best_bbox_mAP_epoch_3.pth')}
    hub = {'runtime_info': {'best_score_a': torch.tensor(0.25), 'best_ckpt_a': 'x/a.pth', 'best_score_b': 'none'}}
    assert best_of({'meta': {}, 'message_hub': hub}, ['a', 'b']) == {'a': (0.25, 'a.pth')}
    assert best_of({'meta': {}, 'message_hub': 3}, ['a']) == {}
