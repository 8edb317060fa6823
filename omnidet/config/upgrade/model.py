"""The model of a 2.x config under the names and in the places of 3.x. What is in 3.x form already stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omnidet.config.nodes import ConfigDict, Path, dotted, walk
from omnidet.config.upgrade.changes import Changes
from omnidet.config.upgrade.transformers import upgrade_transformers

TYPES = {'TransformerHead': 'DETRHead', 'MaskHungarianAssigner': 'HungarianAssigner',
         'AscendRetinaHead': 'RetinaHead', 'AscendSSDHead': 'SSDHead', 'AscendMaxIoUAssigner': 'MaxIoUAssigner'}
"""Parts that have another name."""

SCOPES = {'mmcls': 'mmpretrain'}
"""Projects that have another name."""

ARGUMENTS = {
    'CTResNetNeck': {'in_channel': 'in_channels'},
    'CenterNetHead': {'in_channel': 'in_channels', 'feat_channel': 'feat_channels'},
    'SwinTransformer': {'embed_dim': 'embed_dims', 'ape': 'use_abs_pos_embed', 'use_checkpoint': 'with_cp'},
    'RoIAlign': {'out_size': 'output_size', 'sample_num': 'sampling_ratio'},
    'RoIPool': {'out_size': 'output_size'},
}
"""Arguments that have another name, by the type of the part. The first releases of 2.x had the operators' own."""

UNREAD = {'NASFPN': ('add_extra_convs',)}
"""Arguments that 2.x took and did not read, by the type of the part; and `background_label` of any head."""

COSTS = {
    'HungarianAssigner': {
        'cls_cost': {'type': 'ClassificationCost', 'weight': 1.0},
        'reg_cost': {'type': 'BBoxL1Cost', 'weight': 1.0},
        'iou_cost': {'type': 'IoUCost', 'iou_mode': 'giou', 'weight': 1.0}},
    'MaskHungarianAssigner': {
        'cls_cost': {'type': 'ClassificationCost', 'weight': 1.0},
        'mask_cost': {'type': 'FocalLossCost', 'weight': 1.0, 'binary_input': True},
        'dice_cost': {'type': 'DiceCost', 'weight': 1.0}},
}
"""The costs of an assigner, in the order of `match_costs`, and what each was by default."""

EVERY_PRIOR = ('FocalLoss', 'GHMC', 'QualityFocalLoss')
"""Losses of classes with which a head on anchors took all of them, whatever sampler the config named."""

SELF_SAMPLING = ('SSDHead', 'PISASSDHead', 'YOLACTHead', 'FreeAnchorRetinaHead')
"""Heads that did so always, as they choose their negatives themselves."""

ON_ANCHORS = ('RetinaHead', 'RetinaSepBNHead', 'SABLRetinaHead', 'GARetinaHead', 'PISARetinaHead', 'FSAFHead',
              'RPNHead', *SELF_SAMPLING)


def upgrade_model(model: ConfigDict, changes: Changes) -> None:
    """Bring the model of a 2.x config into the form of 3.x, in place.

    Args:
        model: with `train_cfg`, `test_cfg` and `data_preprocessor` inside.
        changes: what was changed is noted there.

    Raises:
        ConfigError: a part has a form that 3.x has no equal of.
    """
    for path, value in list(walk(model, ('model',))):
        if isinstance(value, ConfigDict):
            _match_costs(value, path, changes)
            _rename(value, path, changes)
            _extra_convs(value, path, changes)
            if path[-1] == 'nms':    # the first releases' name
                _move(value, 'iou_thr', value, 'iou_threshold', path, changes)
    _pretrained(model, changes)
    _proposals(model, changes)
    _sampler(model, changes)
    upgrade_transformers(model, changes)
    rule = BY_DETECTOR.get(str(model.get('type')))
    if rule is not None:
        rule(model, changes)


# ---- any part ----

def _rename(part: ConfigDict, path: Path, changes: Changes) -> None:
    name = part.get('type')
    if not isinstance(name, str):
        return
    if name.startswith('SwinTransformer') and 'embed_dim' in part:    # of its authors' repository: so are its weights
        part.setdefault('convert_weights', True)
    scope, _, bare = name.rpartition('.')
    new = f'{SCOPES[scope]}.{bare}' if scope in SCOPES else TYPES.get(name, name)
    if new != name:
        part['type'] = new
        changes.note(f'{dotted(path)}: {name}', f'{dotted(path)}: {new}')
    for old, argument in ARGUMENTS.get(bare, {}).items():
        _move(part, old, part, argument, path, changes)
    for old in (*UNREAD.get(bare, ()), 'background_label'):
        if old in part:
            del part[old]
            changes.note(f'{dotted(path)}.{old}', '', 'it decides nothing any more')


def _move(source: ConfigDict, old: str, target: ConfigDict, new: str, path: Path, changes: Changes,
          target_path: Path | None = None) -> None:
    """Move `source[old]` to `target[new]`, if it is there."""
    if old in source:
        target[new] = source.pop(old)
        changes.note(f'{dotted(path)}.{old}', f'{dotted(target_path or path)}.{new}')


def _match_costs(part: ConfigDict, path: Path, changes: Changes) -> None:
    """`cls_cost=, reg_cost=, iou_cost=` of an assigner -> `match_costs=[...]`."""
    known = COSTS.get(str(part.get('type')), {})
    given = {k: part.pop(k) for k in known if k in part}
    if not given and (part.get('type') != 'MaskHungarianAssigner'):
        return
    costs = part.get('match_costs') or [ConfigDict(v) for v in known.values()]
    part['match_costs'] = [given.get(k, v) for k, v in zip(known, costs, strict=False)]
    changes.note(f'{dotted(path)}: {", ".join(given or known)}', f'{dotted(path)}.match_costs')


def _extra_convs(part: ConfigDict, path: Path, changes: Changes) -> None:
    """`extra_convs_on_inputs=` of a pyramid, to 2.6 -> `add_extra_convs='on_input'`."""
    if 'extra_convs_on_inputs' in part:
        on_input = part.pop('extra_convs_on_inputs')
        if part.get('add_extra_convs') is True:
            part['add_extra_convs'] = 'on_input' if on_input else 'on_output'
        changes.note(f'{dotted(path)}.extra_convs_on_inputs', f'{dotted(path)}.add_extra_convs')


def _pretrained(model: ConfigDict, changes: Changes) -> None:
    """`pretrained=` of the detector or its backbone -> `backbone.init_cfg`."""
    backbone = model.get('backbone')
    places = {'model': model, 'model.backbone': backbone if isinstance(backbone, ConfigDict) else ConfigDict()}
    for path, part in places.items():
        if isinstance(part.get('pretrained', 0), str | None):    # timm's is a bool, and stays
            source = part.pop('pretrained')
            if source is not None and isinstance(backbone, ConfigDict):
                backbone['init_cfg'] = {'type': 'Pretrained', 'checkpoint': source}
                changes.note(f'{path}.pretrained', 'model.backbone.init_cfg')
            else:
                changes.note(f'{path}.pretrained', '', 'it named nothing; model.backbone.init_cfg says where weights '
                                                       'come from, if any')


# ---- proposals and samplers ----

def _proposals(model: ConfigDict, changes: Changes) -> None:
    """The settings of a region proposal network as 2.0 to 2.3 spelled them."""
    for phase, key in (('train_cfg', 'rpn_proposal'), ('test_cfg', 'rpn')):
        cfg = (model.get(phase) or {}).get(key)
        if not isinstance(cfg, ConfigDict):
            continue
        path = ('model', phase, key)
        if 'nms_thr' in cfg:
            cfg['nms'] = {'type': 'nms', 'iou_threshold': cfg.pop('nms_thr')}
            changes.note(f'{dotted(path)}.nms_thr', f'{dotted(path)}.nms.iou_threshold')
        _move(cfg, 'max_num', cfg, 'max_per_img', path, changes)
        guided = (model.get('rpn_head') or {}).get('type') == 'GARPNHead'    # which still reads them
        for old in () if guided else ('nms_post', 'nms_across_levels'):
            if old in cfg:
                del cfg[old]
                changes.note(f'{dotted(path)}.{old}', '', 'each level is suppressed for itself, and then the best of '
                                                          'all are kept: max_per_img')


def _sampler(model: ConfigDict, changes: Changes) -> None:
    """Heads on anchors that took every anchor say so now, by a sampler that keeps all."""
    train = model.get('train_cfg')
    if not isinstance(train, ConfigDict):
        return
    for key, phase, path in (('bbox_head', train, 'model.train_cfg'),
                             ('rpn_head', train.get('rpn'), 'model.train_cfg.rpn')):
        head = model.get(key)
        if not (isinstance(head, ConfigDict) and isinstance(phase, ConfigDict) and 'assigner' in phase):
            continue
        loss = (head.get('loss_cls') or {}).get('type')
        # the zoo's own heads leave the loss to a default, which is the focal loss except in a RPN
        takes_all = head.get('type') in SELF_SAMPLING or loss in EVERY_PRIOR or (loss is None and key == 'bbox_head')
        if head.get('type') in ON_ANCHORS and takes_all and (phase.get('sampler') or {}).get('type') != 'PseudoSampler':
            if 'sampler' in phase:
                changes.note(f'{path}.sampler', f'{path}.sampler: PseudoSampler', 'the head took every anchor anyway')
            phase['sampler'] = {'type': 'PseudoSampler'}


# ---- single detectors ----

def _yolox(model: ConfigDict, changes: Changes) -> None:
    """Sizes that a batch is brought to by chance: from the detector to the preprocessor, and in pixels."""
    preprocessor = model.setdefault('data_preprocessor', {'type': 'DetDataPreprocessor'})
    keys = ('input_size', 'size_multiplier', 'random_size_range', 'random_size_interval')
    given = {k: model.pop(k) for k in keys if k in model}
    augments = preprocessor.get('batch_augments') or []
    if augments and not given:
        return
    divisor = given.get('size_multiplier', 32)
    preprocessor.setdefault('pad_size_divisor', divisor)
    resize = next((a for a in augments if a.get('type') == 'BatchSyncRandomResize'), None) or ConfigDict(
        type='BatchSyncRandomResize', random_size_range=(15 * divisor, 25 * divisor), size_divisor=divisor, interval=10)
    if 'random_size_range' in given:
        resize['random_size_range'] = tuple(n * divisor for n in given['random_size_range'])
    resize['interval'] = given.get('random_size_interval', resize.get('interval', 10))
    if resize not in augments:
        preprocessor['batch_augments'] = [*augments, resize]
    changes.note(f'model: {", ".join(given) or "sizes at random"}', 'model.data_preprocessor.batch_augments')


def _yolact(model: ConfigDict, changes: Changes) -> None:
    """The segmentation branch of training is the mask head's own."""
    head = model.get('mask_head')
    if isinstance(head, ConfigDict) and 'with_seg_branch' not in head:
        branch = model.pop('segm_head', None)
        head['with_seg_branch'] = branch is not None
        if branch is not None:
            if 'loss_segm' in branch:
                head['loss_segm'] = branch.loss_segm
            changes.note('model.segm_head', 'model.mask_head: with_seg_branch, loss_segm')
    if isinstance(model.get('test_cfg'), ConfigDict):
        for key in ('mask_thr', 'mask_thr_binary'):    # half, as 2.x had it in its code
            model.test_cfg.setdefault(key, 0.5)


def _panoptic_fpn(model: ConfigDict, changes: Changes) -> None:
    """Which instances enter the panoptic map is decided where they are suppressed."""
    test = model.get('test_cfg') or {}
    panoptic, rcnn = test.get('panoptic'), test.get('rcnn')
    if isinstance(panoptic, ConfigDict) and isinstance(rcnn, ConfigDict):
        for key in ('score_thr', 'nms', 'max_per_img', 'mask_thr_binary'):
            _move(panoptic, key, rcnn, key, ('model', 'test_cfg', 'panoptic'), changes, ('model', 'test_cfg', 'rcnn'))


BY_DETECTOR: Mapping[str, Any] = {'YOLOX': _yolox, 'YOLACT': _yolact, 'PanopticFPN': _panoptic_fpn,
                                  'TwoStagePanopticSegmentor': _panoptic_fpn}
"""What is particular to one detector."""
