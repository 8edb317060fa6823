"""The training loop on a tiny model: what it leaves, that it goes on as if never stopped, and what ends it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_parts import TinyDetector, at, tiny_cfg

from omnidet.engine import Hook, load_checkpoint, load_weights, train
from omnidet.engine.hooks import build_hooks
from omnidet.engine.hooks.base import PRIORITIES
from omnidet.engine.logging import read_log
from omnidet.errors import CheckpointError, ConfigError, TrainingError
from omnidet.registry import HOOKS, find_anywhere

EMA = dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=5, update_buffers=True, priority=49)


def names(folder: Path, pattern: str = '*') -> set[str]:
    return {p.name for p in folder.glob(pattern)}


def losses(folder: Path) -> dict[int, float]:
    return {r['iter']: r['loss'] for r in read_log(folder / 'log.jsonl') if r['mode'] == 'train'}


def run(cfg: dict[str, Any], folder: Path, **kwargs: Any) -> dict[str, Any]:
    return train(cfg, work_dir=folder, device='cpu', quiet=True, **{'seed': 0, **kwargs})


def stop_at(iteration: int, number: int) -> dict[str, Any]:
    """A hook that sends a signal to the process, as Ctrl-C does."""
    return at('before_iter', lambda run, batch: os.kill(os.getpid(), number) if run.iter == iteration else None)


def test_a_run_learns_and_leaves_its_files(tmp_path):
    cfg = tiny_cfg(train_cfg=dict(max_epochs=12, val_interval=6), visualizer=dict(vis_backends=[]))
    result = run(cfg, tmp_path)
    history = losses(tmp_path)
    assert len(history) == 36 == result['iterations']
    assert history[36] < 0.7 * history[1]
    assert {'config.py', 'log.jsonl', 'curves.png', 'last_checkpoint', 'epoch_12.pth'} <= names(tmp_path)
    assert result['metrics']['tiny/count'] == 7
    assert [r['epoch'] for r in read_log(tmp_path / 'log.jsonl') if r['mode'] == 'val'] == [6, 12]
    meta = load_checkpoint(tmp_path / 'epoch_12.pth')['meta']
    assert (meta['epoch'], meta['iter'], meta['dataset_meta']['classes'], meta['seed']) == (12, 36, ('a', 'b', 'c'), 0)
    assert 'TinyDetector' in meta['cfg']
    assert 'TinyDetector' in (tmp_path / 'config.py').read_text()


def test_the_config_is_not_changed(tmp_path):
    cfg, same = tiny_cfg(custom_hooks=[EMA]), tiny_cfg(custom_hooks=[EMA])
    run(cfg, tmp_path)
    assert cfg == same


def test_the_logged_rate_is_that_of_the_schedule(tmp_path):
    run(tiny_cfg(), tmp_path)
    rates = [r['lr'] for r in read_log(tmp_path / 'log.jsonl') if r['mode'] == 'train']
    assert rates == pytest.approx([0.05 * f for f in (0.1, 0.4, 0.7, 1, 1, 1, 1, 1, 1)])


def test_equal_seeds_give_equal_losses_and_others_do_not(tmp_path):
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        run(tiny_cfg(), tmp_path / name, seed=seed)
    assert losses(tmp_path / 'a') == losses(tmp_path / 'b') != losses(tmp_path / 'c')


@pytest.mark.parametrize('hooks', [[], [EMA]])
def test_resuming_between_epochs_gives_the_same_losses(tmp_path, hooks):
    cfg = tiny_cfg(custom_hooks=hooks, default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                                                          checkpoint=dict(type='CheckpointHook', interval=1)))
    run(cfg, tmp_path / 'whole')
    run(cfg, tmp_path / 'parts')
    result = run(cfg, tmp_path / 'parts', resume=tmp_path / 'parts' / 'epoch_1.pth', seed=None)
    assert result['seed'] == 0
    assert losses(tmp_path / 'parts') == losses(tmp_path / 'whole')
    a, b = (load_checkpoint(tmp_path / n / 'epoch_3.pth') for n in ('whole', 'parts'))
    for part in ('state_dict', *(['ema_state_dict'] if hooks else [])):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])


@pytest.mark.parametrize(('number', 'wrapper'), [(signal.SIGINT, {}), (signal.SIGTERM, dict(accumulative_counts=3))])
def test_an_interrupt_leaves_a_checkpoint_that_goes_on_within_an_epoch(tmp_path, number, wrapper):
    optim = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9), **wrapper)
    cfg = tiny_cfg(custom_hooks=[EMA], optim_wrapper=optim)
    run(cfg, tmp_path / 'whole')
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_cfg(custom_hooks=[EMA, stop_at(4, number)], optim_wrapper=optim), tmp_path / 'parts')
    assert signal.getsignal(number) is before
    assert load_checkpoint(tmp_path / 'parts' / 'interrupted.pth')['meta']['iter'] == 4
    run(cfg, tmp_path / 'parts', resume=True)
    assert losses(tmp_path / 'parts') == losses(tmp_path / 'whole')


def test_a_run_interrupted_in_its_last_validation_ends_when_it_goes_on(tmp_path):
    stop = at('before_val', lambda run: os.kill(os.getpid(), signal.SIGINT) if run.epoch == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_cfg(custom_hooks=[stop]), tmp_path)
    result = run(tiny_cfg(), tmp_path, resume=True)
    assert result['metrics']['tiny/count'] == 7 and result['iterations'] == 9


def test_iterations_in_place_of_epochs(tmp_path):
    cfg = tiny_cfg(train_cfg=dict(type='IterBasedTrainLoop', max_iters=8, val_interval=3),
                   train_dataloader=dict(batch_size=4, sampler=dict(type='InfiniteSampler'),
                                         dataset=dict(type='TinyDataset')),
                   default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                                      checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4)))
    run(cfg, tmp_path)
    whole = losses(tmp_path)
    assert len(whole) == 8
    assert [r['iter'] for r in read_log(tmp_path / 'log.jsonl') if r['mode'] == 'val'] == [3, 6, 8]
    assert {'iter_4.pth', 'iter_8.pth'} <= names(tmp_path)
    run(cfg, tmp_path, resume=tmp_path / 'iter_4.pth')
    assert losses(tmp_path) == whole


def test_only_the_latest_and_the_best_checkpoints_are_kept(tmp_path):
    hook = dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='auto')
    cfg = tiny_cfg(train_cfg=dict(max_epochs=4), val_evaluator=dict(type='TinyMetric', script=[0.1, 0.5, 0.3, 0.4]),
                   default_hooks=dict(checkpoint=hook))
    result = run(cfg, tmp_path)
    assert names(tmp_path, '*.pth') == {'best_tiny_score_epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'}
    assert result['best']['tiny/score']['score'] == 0.5
    assert Path(result['checkpoint']).name == 'epoch_4.pth'
    cfg = tiny_cfg(train_cfg=dict(max_epochs=6), val_evaluator=dict(type='TinyMetric', script=[0.45, 0.6]),
                   default_hooks=dict(checkpoint=hook))
    run(cfg, tmp_path, resume=True)
    assert names(tmp_path, '*.pth') == {'best_tiny_score_epoch_6.pth', 'epoch_5.pth', 'epoch_6.pth'}


def test_a_rule_turns_the_best_around_and_an_unknown_metric_is_named(tmp_path):
    cfg = tiny_cfg(val_evaluator=dict(type='TinyMetric', script=[0.5, 0.1, 0.3]), default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', save_best='tiny/score', rule='less')))
    run(cfg, tmp_path)
    assert names(tmp_path, 'best*') == {'best_tiny_score_epoch_2.pth'}
    cfg = tiny_cfg(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='tiny/meen')))
    with pytest.raises(ConfigError, match="did you mean 'tiny/mean'"):
        run(cfg, tmp_path / 'b')
    assert load_checkpoint(tmp_path / 'b' / 'interrupted.pth')['meta']['iter'] == 3    # nothing is lost by the mistake


def test_the_average_is_what_is_validated_and_kept(tmp_path):
    seen = []

    def look(run: Any, metrics: dict[str, float]) -> None:
        seen.append(run.deployed is run.ema.module and run.deployed is not run.model)
    run(tiny_cfg(custom_hooks=[EMA, at('after_val', look)]), tmp_path)
    assert seen == [True, True, True]
    checkpoint = load_checkpoint(tmp_path / 'epoch_3.pth')
    raw = {k.removeprefix('module.'): v for k, v in checkpoint['ema_state_dict'].items()}
    assert int(raw.pop('steps')) == 9
    assert raw.keys() == checkpoint['state_dict'].keys()
    assert not torch.equal(raw['stem.weight'], checkpoint['state_dict']['stem.weight'])


def test_a_pipeline_is_switched_once_also_after_resuming(tmp_path):
    pipelines: list[Any] = []

    def look(run: Any, batch: Any) -> None:
        pipelines.append(list(run.train_dataloader.dataset.pipeline))
    flip = dict(type='RandomFlip', prob=0.5)
    switch = dict(type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=[flip])
    cfg = tiny_cfg(custom_hooks=[switch, at('before_iter', look)])
    run(cfg, tmp_path)
    assert pipelines == [[]] * 3 + [[flip]] * 6
    pipelines.clear()
    run(cfg, tmp_path, resume=tmp_path / 'epoch_2.pth')
    assert pipelines == [[flip]] * 3


def test_a_model_is_told_its_progress(tmp_path):
    told = []
    hook = at('after_iter', lambda run, batch, losses: told.append(run.model.progress))
    run(tiny_cfg(custom_hooks=[hook]), tmp_path)
    assert told == [(i // 3, i) for i in range(9)]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    def poison(run: Any, batch: Any) -> None:
        if run.iter == 3:
            run.model.stem.weight.data.fill_(float('nan'))
    cfg = tiny_cfg(custom_hooks=[at('before_iter', poison), dict(type='CheckInvalidLossHook', interval=2)])
    with pytest.raises(TrainingError, match=r'iteration 4: the loss is not finite \(.*loss_cls'):
        run(cfg, tmp_path)


def test_a_wrong_number_of_classes_is_told_before_training(tmp_path):
    cfg = tiny_cfg()
    cfg['model']['bbox_head']['num_classes'] = 80
    with pytest.raises(ConfigError, match=r'model\.bbox_head\.num_classes is 80.*3 classes \(a, b, c\)'):
        run(cfg, tmp_path)
    assert not (tmp_path / 'log.jsonl').exists()


def test_weights_of_another_run_are_a_start(tmp_path):
    run(tiny_cfg(), tmp_path / 'a')
    first = []

    def look(run: Any) -> None:
        first.append(run.model.stem.weight.detach().clone())
    run(tiny_cfg(custom_hooks=[at('before_train', look)]), tmp_path / 'b', load_from=tmp_path / 'a' / 'epoch_3.pth')
    assert torch.equal(first[0], load_checkpoint(tmp_path / 'a' / 'epoch_3.pth')['state_dict']['stem.weight'])
    assert len(losses(tmp_path / 'b')) == 9


def test_resuming_from_mere_weights_or_another_model_is_refused(tmp_path):
    run(tiny_cfg(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_optimizer=False))), tmp_path)
    with pytest.raises(CheckpointError, match='--load-from'):
        run(tiny_cfg(), tmp_path / 'b', resume=tmp_path / 'epoch_3.pth')
    run(tiny_cfg(), tmp_path)
    other = tiny_cfg()
    other['model']['norm'] = False
    with pytest.raises(CheckpointError, match='does not continue this run'):
        run(other, tmp_path / 'b', resume=tmp_path / 'epoch_3.pth')


def test_auto_scale_lr_follows_the_batch_size(tmp_path):
    run(tiny_cfg(auto_scale_lr=dict(enable=True, base_batch_size=16)), tmp_path)
    assert read_log(tmp_path / 'log.jsonl')[-2]['lr'] == pytest.approx(0.05 * 4 / 16)


def test_a_checkpoint_loads_into_a_new_model_in_full(tmp_path):
    run(tiny_cfg(), tmp_path)
    model = TinyDetector(dict(type='TinyHead'))
    assert load_weights(model, load_checkpoint(tmp_path / 'epoch_3.pth')['state_dict'], 'x', strict=True).complete


def test_hooks_written_for_mmengine_are_called(tmp_path):
    calls: list[str] = []

    @HOOKS.register_module(force=True)
    class OldHook(Hook):
        def __init__(self, word: str) -> None:
            self.word = word

        def before_train_epoch(self, runner: Any) -> None:
            calls.append(f'{self.word} epoch {runner.epoch}')

        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            if self.every_n_train_iters(runner, 4):
                calls.append(f'iter {runner.iter} batch {batch_idx} {sorted(outputs)[0]}')

        def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
            calls.append(f'val {metrics["tiny/count"]:.0f}')

    hooks = [dict(type='OldHook', word='hi')]
    run(tiny_cfg(custom_hooks=hooks, train_cfg=dict(max_epochs=2, val_interval=2)), tmp_path)
    assert calls == ['hi epoch 0', 'hi epoch 1', 'iter 3 batch 0 loss', 'val 7']


def test_early_stopping_ends_a_run_that_no_longer_gains(tmp_path):
    cfg = tiny_cfg(train_cfg=dict(max_epochs=9), val_evaluator=dict(type='TinyMetric', script=[0.5] * 9),
                   custom_hooks=[dict(type='EarlyStoppingHook', monitor='tiny/score', patience=2, min_delta=0.01)])
    assert run(cfg, tmp_path)['iterations'] == 9


def test_hooks_come_in_the_order_of_their_priorities():
    hooks = build_hooks({'default_hooks': dict(logger=dict(type='LoggerHook'), timer=dict(type='IterTimerHook')),
                         'custom_hooks': [dict(type='CheckInvalidLossHook', priority='LOWEST'), EMA]})
    assert [type(h).__name__ for h in hooks] == ['EMAHook', 'IterTimerHook', 'LoggerHook', 'CheckpointHook',
                                                 'CheckInvalidLossHook']
    assert PRIORITIES['NORMAL'] == 50


@pytest.mark.parametrize(('change', 'word'), [
    (dict(custom_hooks=[dict(type='EMAHok')]), 'EMAHook'),
    (dict(custom_hooks=[dict(type='EMAHook', momentums=1)]), 'momentum'),
    (dict(val_evaluator=None), 'val_evaluator'), (dict(train_dataloader=None), 'train_dataloader'),
    (dict(optim_wrapper=None), 'optim_wrapper'), (dict(train_cfg=None), 'train_cfg')])
def test_a_config_that_cannot_train_is_refused_with_a_reason(tmp_path, change, word):
    with pytest.raises(ConfigError, match=word):
        run(tiny_cfg(**change), tmp_path)


@pytest.mark.parametrize('name', [
    'EpochBasedTrainLoop', 'IterBasedTrainLoop', 'ValLoop', 'TestLoop', 'OptimWrapper', 'AmpOptimWrapper', 'SGD',
    'AdamW', 'LinearLR', 'CosineAnnealingLR', 'QuadraticWarmupLR', 'IterTimerHook', 'LoggerHook', 'ParamSchedulerHook',
    'CheckpointHook', 'DistSamplerSeedHook', 'DetVisualizationHook', 'EMAHook', 'PipelineSwitchHook',
    'NumClassCheckHook', 'CheckInvalidLossHook', 'SyncNormHook', 'LocalVisBackend', 'TensorboardVisBackend',
    'DetLocalVisualizer', 'LogProcessor'])
def test_every_name_of_the_engine_is_known(name):
    assert find_anywhere(name) is not None


def test_tensorboard_is_written_when_asked_for(tmp_path):
    pytest.importorskip('tensorboard')
    run(tiny_cfg(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]), tmp_path / 'a')
    run(tiny_cfg(), tmp_path / 'b')
    assert names(tmp_path / 'a' / 'tensorboard', 'events*')
    assert not (tmp_path / 'b' / 'tensorboard').exists()


def test_a_full_disk_ends_the_run_and_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    write, saved = torch.save, []

    def until_full(obj: Any, f: Any) -> None:
        saved.append(obj)
        if len(saved) > 1:
            raise OSError(28, 'No space left on device')
        write(obj, f)
    monkeypatch.setattr(torch, 'save', until_full)
    with pytest.raises(TrainingError, match=r'epoch_2\.pth: the disk is full.*--resume'):
        run(tiny_cfg(), tmp_path)
    assert names(tmp_path, '*.pth') == {'epoch_1.pth'}
    monkeypatch.undo()
    assert run(tiny_cfg(), tmp_path, resume=True)['iterations'] == 9


def test_no_validation_is_fine(tmp_path):
    result = run(tiny_cfg(val_dataloader=None, val_evaluator=None), tmp_path)
    assert result['metrics'] == {} and result['iterations'] == 9
