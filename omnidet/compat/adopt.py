"""How a part of the user's joins ours, where it is written for MMDetection's interfaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omnidet.errors import ConfigError, OmniDetError

UNCALLED = {
    **dict.fromkeys(('loss_by_feat', 'loss_by_feat_single', 'loss_single', 'get_targets', '_get_targets_single'),
                    'losses(...)'),
    **dict.fromkeys(('predict_by_feat', '_predict_by_feat_single', 'get_bboxes', '_get_bboxes_single', 'simple_test',
                     'aug_test', 'add_pred_to_datasample'), 'predict(...)'),
    **dict.fromkeys(('prepare_data', 'prepare_train_img', 'prepare_test_img'), '__getitem__(key)'),
    **dict.fromkeys(('load_annotations', 'parse_data_info', '_parse_ann_info', 'get_ann_info'), 'load_data_list()'),
    **dict.fromkeys(('_transform', '_resize_img', '_resize_bboxes', '_flip_bbox'), 'transform(results)'),
    **dict.fromkeys(('run_epoch', 'run_iter'), 'omnidet.engine.train'),
    'forward_single': 'forward(feats)', 'forward_train': 'loss(...)', 'loss_and_predict': 'loss_and_propose(...)',
    '_init_layers': '__init__', '_bbox_forward': 'the driver of RoI heads', 'process': 'update(results, metas)',
    'compute_metrics': 'compute(records)', 'add_datasample': 'omnidet.visualization',
}
"""Methods through which classes of MMDetection are changed, and what ours have in their place."""


def adopt(kind: str, cls: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Make a part of the user's.

    - A model's part with `init_weights()` has it called: MMDetection's parts draw their initial values there.
    - A loss gets its inputs as MMDetection's heads give them: one row for each prior.
    - A transform that has `__call__` alone, as in MMDetection 2.x, sees the keys of 2.x; one of 3.x sees `gt_bboxes`
      with the methods of `HorizontalBoxes`.
    - A hook derived from MMEngine's or MMCV's is called at their moments.

    Args:
        kind: what the registry calls such a part.
        cls: the user's class.
        kwargs: its arguments.

    Raises:
        ConfigError: it cannot be made (the message has the user's line), or it derives from a part of ours and
            overrides what only MMDetection's calls.
    """
    if isinstance(cls, type):
        check_overrides(cls)
        _take_classes(cls)
        if kind == 'transform' and (hasattr(cls, 'transform') or '__call__' in dir(cls)):
            from omnidet.compat.transforms import adapted
            cls = adapted(cls)
        if kind == 'loss' and _is_module(cls):
            from omnidet.compat.losses import taking_rows
            cls = taking_rows(cls)
    try:
        part = cls(**kwargs)
        if callable(getattr(part, 'init_weights', None)):
            part.init_weights()
    except Exception as e:
        if isinstance(e, OmniDetError) or type(e).__name__ == 'OutOfMemoryError':
            raise
        from omnidet.compat.user_code import place
        raise ConfigError(f'{kind} {getattr(cls, "__name__", cls)} cannot be made: {place(e)}{type(e).__name__}: '
                          f'{str(e)[:300]}') from e
    if kind == 'hook':
        from omnidet.compat.hooks import adapted_hook
        return adapted_hook(part)
    return part


def check_overrides(cls: type) -> None:
    """Refuse a subclass of a part of ours that overrides a method which ours does not have: it would never run.

    Raises:
        ConfigError: it does; the message says which, and what ours has in its place.
    """
    mine = next((c for c in cls.__mro__ if c.__module__.startswith('omnidet.')), None)
    if mine is None:
        return
    for base in cls.__mro__[:cls.__mro__.index(mine)]:
        for name in base.__dict__.keys() & UNCALLED.keys():
            if not hasattr(mine, name):
                raise ConfigError(f'{cls.__name__} overrides {name}() of {mine.__name__}, which OmniDet\'s '
                                  f'{mine.__name__} never calls; it has {UNCALLED[name]} in its place: see '
                                  'docs/architecture.md')


def _is_module(cls: type) -> bool:
    from torch import nn
    return issubclass(cls, nn.Module)


def _take_classes(cls: type) -> None:
    """`CLASSES` and `PALETTE` of a data set of MMDetection 2.x, as `METAINFO`."""
    names = cls.__dict__.get('CLASSES')
    if names is not None and 'METAINFO' not in cls.__dict__ and hasattr(cls, 'METAINFO'):
        palette = cls.__dict__.get('PALETTE')
        cls.METAINFO = {'classes': names, **({'palette': palette} if palette else {})}    # type: ignore[attr-defined]
