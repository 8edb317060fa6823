"""Optimizer, evaluation, hooks, logs and the environment of 2.x in the form of 3.x."""

from __future__ import annotations

import pytest

from omnidet.errors import ConfigError

SGD = "optimizer = dict(type='SGD', lr=0.1, momentum=0.9)\n"
DONE = dict(type='SGD', lr=0.1, momentum=0.9)
MARK = 'checkpoint_config = dict(interval=1)\n'


@pytest.mark.parametrize(('text', 'expected'), [
    ('optimizer_config = dict(grad_clip=None)', dict(type='OptimWrapper', optimizer=DONE)),
    ('optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))',
     dict(type='OptimWrapper', clip_grad=dict(max_norm=35, norm_type=2), optimizer=DONE)),
    ('optimizer_config = dict()\nfp16 = dict(loss_scale=512.)',
     dict(type='AmpOptimWrapper', loss_scale=512.0, optimizer=DONE)),
    ("optimizer_config = dict()\nfp16 = dict(loss_scale='dynamic')",
     dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer=DONE)),
    ('optimizer_config = dict()\nfp16 = dict()', dict(type='AmpOptimWrapper', loss_scale=512.0, optimizer=DONE)),
    ("optimizer_config = dict(type='Fp16OptimizerHook', loss_scale=dict(init_scale=64), grad_clip=None)",
     dict(type='AmpOptimWrapper', loss_scale=dict(init_scale=64), optimizer=DONE)),
    ("optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4)",
     dict(type='OptimWrapper', accumulative_counts=4, optimizer=DONE)),
    ("optimizer_config = dict(type='GradientCumulativeFp16OptimizerHook', cumulative_iters=4)",
     dict(type='AmpOptimWrapper', accumulative_counts=4, loss_scale=512.0, optimizer=DONE)),
    ("optimizer_config = dict()\noptimizer.update(paramwise_cfg=dict(norm_decay_mult=0.), "
     "constructor='DefaultOptimizerConstructor')",
     dict(type='OptimWrapper', paramwise_cfg=dict(norm_decay_mult=0.0), optimizer=DONE)),
    ("optimizer_config = dict()\noptimizer.update(constructor='LearningRateDecayOptimizerConstructor', "
     "paramwise_cfg=dict(num_layers=6))",
     dict(type='OptimWrapper', paramwise_cfg=dict(num_layers=6),
          constructor='LearningRateDecayOptimizerConstructor', optimizer=DONE)),
])
def test_the_optimizer(load, text, expected):
    cfg = load(SGD + text)
    assert cfg.optim_wrapper == expected
    assert not {'optimizer', 'optimizer_config', 'fp16'} & set(cfg)


def test_an_unknown_kind_of_step(load):
    with pytest.raises(ConfigError, match=r"cfg.py:2: optimizer_config.type: there is no 'Fp16Hook'"):
        load(SGD + "optimizer_config = dict(type='Fp16Hook')")


def test_what_the_optimizer_lost_is_told(load):
    cfg = load(SGD + "optimizer_config = dict(type='OptimizerHook', detect_anomalous_params=True)")
    assert ('optimizer_config.detect_anomalous_params', '', 'no optim_wrapper has it') in cfg.changes


def test_the_whole_of_a_default_runtime(load):
    cfg = load("""
        checkpoint_config = dict(interval=2, max_keep_ckpts=3, create_symlink=False)
        log_config = dict(interval=20, hooks=[dict(type='TextLoggerHook'), dict(type='TensorboardLoggerHook')])
        custom_hooks = [dict(type='NumClassCheckHook')]
        dist_params = dict(backend='gloo', port=29515)
        log_level = 'INFO'
        load_from = None
        resume_from = None
        workflow = [('train', 1)]
        opencv_num_threads = 0
        mp_start_method = 'spawn'
        cudnn_benchmark = True
        auto_scale_lr = dict(enable=True, base_batch_size=16)
        find_unused_parameters = True
        work_dir = 'here'
        gpu_ids = [0]
        device = 'cuda'
        seed = 7
        deterministic = True
    """)
    assert dict(cfg) == dict(
        default_scope='mmdet', log_level='INFO', load_from=None, resume=False, find_unused_parameters=True,
        work_dir='here', auto_scale_lr=dict(enable=True, base_batch_size=16),
        default_hooks=dict(
            timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=20),
            param_scheduler=dict(type='ParamSchedulerHook'),
            checkpoint=dict(type='CheckpointHook', interval=2, max_keep_ckpts=3),
            sampler_seed=dict(type='DistSamplerSeedHook'), visualization=dict(type='DetVisualizationHook')),
        env_cfg=dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='spawn', opencv_num_threads=0),
                     dist_cfg=dict(backend='gloo', port=29515)),
        log_processor=dict(type='LogProcessor', window_size=20, by_epoch=True),
        vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
        visualizer=dict(type='DetLocalVisualizer', name='visualizer', vis_backends=[
            dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]),
        randomness=dict(seed=7, deterministic=True))
    lost = {c.old for c in cfg.changes if not c.new}
    assert lost == {'checkpoint_config.create_symlink', 'custom_hooks: NumClassCheckHook', 'gpu_ids', 'device'}


def test_a_run_by_iterations_keeps_and_logs_by_iterations(load):
    cfg = load("""
        checkpoint_config = dict(interval=100)
        log_config = dict(interval=10)
        runner = dict(type='IterBasedRunner', max_iters=300)
        evaluation = dict(interval=50, dynamic_intervals=[(200, 10)])
    """)
    assert cfg.default_hooks.checkpoint == dict(type='CheckpointHook', interval=100, by_epoch=False)
    assert cfg.log_processor.by_epoch is False
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=300, val_interval=50,
                                 dynamic_intervals=[(200, 10)])


def test_a_checkpoint_to_go_on_from(load):
    cfg = load(MARK + "resume_from = 'work/epoch_3.pth'\nload_from = None")
    assert (cfg.load_from, cfg.resume) == ('work/epoch_3.pth', True) and 'resume_from' not in cfg


def test_losses_on_the_validation_set_are_told_to_be_gone(load):
    cfg = load(MARK + "workflow = [('train', 1), ('val', 1)]")
    assert any(c.old == 'workflow' and not c.new for c in cfg.changes)


@pytest.mark.parametrize(('hook', 'expected'), [
    (dict(type='NumClassCheckHook'), None),
    (dict(type='SetEpochInfoHook'), None),
    (dict(type='YOLOXModeSwitchHook', num_last_epochs=15, priority=48),
     dict(type='YOLOXModeSwitchHook', num_last_epochs=15, priority=48)),
    (dict(type='SyncNormHook', num_last_epochs=15, interval=10, priority=48), dict(type='SyncNormHook', priority=48)),
    (dict(type='ExpMomentumEMAHook', momentum=0.0001, resume_from=None, priority=49, total_iter=1000),
     dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0001, gamma=1000, update_buffers=True, priority=49)),
    (dict(type='EMAHook'), dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.0002,
                                update_buffers=True)),
    (dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW'),
     dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW')),
    (dict(type='MyHook', a=1), dict(type='MyHook', a=1)),
])
def test_custom_hooks(load, hook, expected):
    cfg = load(f'{MARK}custom_hooks = [{hook!r}]')
    assert cfg.get('custom_hooks') == (None if expected is None else [expected])


def test_random_sizes_of_early_yolox(load):
    cfg = load(MARK + "custom_hooks = [dict(type='SyncRandomSizeHook', ratio_range=(14, 26), img_scale=(640, 640), "
               "interval=10)]\nmodel = dict(type='X')")
    assert cfg.model.data_preprocessor.batch_augments == [
        dict(type='BatchSyncRandomResize', random_size_range=(448, 832), size_divisor=32, interval=10)]


def test_records_elsewhere(load):
    cfg = load("""
        log_config = dict(interval=5, hooks=[
            dict(type='TextLoggerHook', by_epoch=False), dict(type='MlflowLoggerHook'),
            dict(type='MMDetWandbHook', init_kwargs=dict(project='p'), log_checkpoint=True)])
    """)
    assert cfg.visualizer.vis_backends == [dict(type='LocalVisBackend'),
                                           dict(type='WandbVisBackend', init_kwargs=dict(project='p'))]
    assert any(c.old == 'log_config.hooks: MlflowLoggerHook' and not c.new for c in cfg.changes)


def test_modules_of_mmclassification_are_those_of_mmpretrain(load):
    cfg = load(MARK + "custom_imports = dict(imports=['mmcls.models', 'mmclsx', 'mine'], allow_failed_imports=False)")
    assert cfg.custom_imports.imports == ['mmpretrain.models', 'mmclsx', 'mine']


# ---- evaluation ----

DATA = """
data = dict(samples_per_gpu=2, train=dict(type='CocoDataset', ann_file='a.json'),
            val=dict(type='CocoDataset', ann_file='b.json'), test=dict(type='CocoDataset', ann_file='c.json'))
runner = dict(type='EpochBasedRunner', max_epochs=12)
"""


def test_evaluation_in_full(load):
    cfg = load(DATA + "evaluation = dict(interval=3, start=6, metric=['bbox', 'segm'], classwise=True, iou_thrs=[0.5], "
               "proposal_nums=(1, 10, 100), metric_items=['mAP'], jsonfile_prefix='out/x', save_best='segm_mAP_50', "
               "rule='greater', gpu_collect=True)")
    evaluator = dict(type='CocoMetric', metric=['bbox', 'segm'], classwise=True, iou_thrs=[0.5],
                     proposal_nums=(1, 10, 100), metric_items=['mAP'], outfile_prefix='out/x')
    assert cfg.val_evaluator == dict(evaluator, ann_file='b.json')
    assert cfg.test_evaluator == dict(evaluator, ann_file='c.json')
    assert cfg.train_cfg == dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=3, val_begin=6)
    assert cfg.default_hooks.checkpoint == dict(save_best='coco/segm_mAP_50', rule='greater')
    assert [c.old for c in cfg.changes if not c.new] == ['evaluation.gpu_collect']


@pytest.mark.parametrize(('old', 'new'), [
    ('bbox_mAP', 'coco/bbox_mAP'), ('bbox_mAP_50', 'coco/bbox_mAP_50'), ('AR@100', 'coco/AR@100'), ('auto', 'auto')])
def test_the_names_of_figures(load, old, new):
    cfg = load(DATA + f'evaluation = dict(metric="bbox", save_best={old!r})')
    assert cfg.default_hooks.checkpoint.save_best == new


def test_nothing_said_is_boxes_after_each_epoch(load):
    cfg = load(DATA)
    assert cfg.val_evaluator == dict(type='CocoMetric', ann_file='b.json', metric='bbox')
    assert cfg.train_cfg.val_interval == 1


def test_a_begin_that_counts_otherwise_is_told(load):
    cfg = load(DATA + "evaluation = dict(interval=3, start=4)")
    assert any(c.old == 'evaluation.start' and 'multiples of 3' in c.note for c in cfg.changes)


def test_settings_of_the_model_at_top_level(load):
    cfg = load("""
        model = dict(type='FasterRCNN', train_cfg=None)
        train_cfg = dict(rpn=dict(pos_weight=-1), rcnn=dict(debug=False))
        test_cfg = dict(rcnn=dict(score_thr=0.05))
        total_epochs = 4
    """)
    assert cfg.model == dict(type='FasterRCNN', train_cfg=dict(rpn=dict(pos_weight=-1), rcnn=dict(debug=False)),
                             test_cfg=dict(rcnn=dict(score_thr=0.05)))
    assert cfg.train_cfg == dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
    assert cfg.test_cfg == dict(type='TestLoop')
