"""YOLOX's last epochs: other data, and one loss more."""

from types import SimpleNamespace

import pytest
from torch import nn

from omnidet.engine.hooks import build_hooks
from omnidet.registry import DENSE_HEADS


def a_run(max_epochs):
    head = DENSE_HEADS.build(dict(type='YOLOXHead', num_classes=2, in_channels=4, feat_channels=4, stacked_convs=1))
    skipped = []
    return SimpleNamespace(epoch=0, max_epochs=max_epochs, model=nn.ModuleDict({'bbox_head': head}), stream='running',
                           train_dataloader=SimpleNamespace(skip_transforms=skipped.append),
                           logger=SimpleNamespace(info=lambda text: None)), skipped


def the_hook(**options):
    return next(h for h in build_hooks(dict(custom_hooks=[dict(type='YOLOXModeSwitchHook', **options)]))
                if type(h).__name__ == 'YOLOXModeSwitchHook')


@pytest.mark.parametrize('first', [0, 9])    # 9: resumed after the switch
def test_switch_comes_once_and_in_time(first):
    hook = the_hook(num_last_epochs=3)
    run, skipped = a_run(10)
    states = []
    for run.epoch in range(first, 10):
        hook.before_epoch(run)
        states.append(run.model['bbox_head'].use_l1)
    assert states == [epoch >= 6 for epoch in range(first, 10)]    # before the epoch that has three after it
    assert skipped == [('Mosaic', 'RandomAffine', 'MixUp')] and run.stream is None


def test_transforms_to_skip_are_configurable():
    hook = the_hook(num_last_epochs=1, skip_type_keys=['Mosaic'])
    run, skipped = a_run(1)
    hook.before_epoch(run)
    assert skipped == [('Mosaic',)]
