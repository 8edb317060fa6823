"""Single transforms of 2.x in the form of 3.x: what they and their arguments are called, and sides in another order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omnidet.config.nodes import ConfigDict
from omnidet.config.upgrade.work import Work


@dataclass(frozen=True)
class Rule:
    """What becomes of a transform.

    Attributes:
        type: its name now; None where it has kept it.
        names: {argument: its name now}.
        turned: arguments that were (height, width) and are (width, height).
        gone: arguments that there is nothing for any more.
    """

    type: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    turned: Sequence[str] = ()
    gone: Sequence[str] = ()


_CUT = ('min_bbox_size', 'min_area_ratio', 'max_aspect_ratio', 'skip_filter')
"""How YOLOX's transforms left out boxes; `FilterAnnotations` does."""

RULES: Mapping[str, Rule] = {
    'RandomFlip': Rule(names={'flip_ratio': 'prob'}),
    'RandomShift': Rule(names={'shift_ratio': 'prob'}),
    'RandomCenterCropPad': Rule(turned=('crop_size',)),
    'Pad': Rule(turned=('size',)),
    'Mosaic': Rule(turned=('img_scale',), gone=_CUT),
    'MixUp': Rule(turned=('img_scale',), gone=(*_CUT, 'dynamic_scale')),
    'RandomAffine': Rule(turned=('border',), gone=_CUT),
    'LoadAnnotations': Rule(gone=('denorm_bbox', 'normed_bbox')),
    'Albu': Rule(gone=('update_pad_shape',)),
    'BrightnessTransform': Rule('Brightness'),
    'ContrastTransform': Rule('Contrast'),
    'ColorTransform': Rule('Color'),
    'EqualizeTransform': Rule('Equalize'),
    'AutoAugment': Rule('RandomChoice', names={'policies': 'transforms'})}

_RESIZE = {'bbox_clip_border': 'clip_object_border'}


def upgrade_transform(work: Work, old: ConfigDict) -> ConfigDict | None:
    """One transform of 2.x as 3.x has it; None where nothing is left to do.

    What packs, normalises or pads at the end is none of these: see `pipelines`.
    """
    kind = str(old.get('type', '')).removeprefix('mmdet.')
    special = _SPECIAL.get(kind)
    new = special(work, old) if special is not None else work.like(old, old)
    if new is None:
        return None
    rule = RULES.get(kind, Rule())
    for key in list(new):
        if key in rule.gone:
            work.changes.note(f'{kind}.{key}', '', 'there is nothing for it in 3.x')
            del new[key]
        elif key == 'file_client_args':
            _rename_storage(work, new, kind)
        elif key in rule.names:
            work.changes.note(f'{kind}.{key}', f'{rule.type or kind}.{rule.names[key]}')
            work.move(new, key, new, rule.names[key])
        if key in rule.turned and isinstance(new.get(key), (list, tuple)):
            new[key] = _turned(work, kind, key, new[key])
    if rule.type is not None:
        work.changes.note(kind, rule.type)
        new['type'] = rule.type
    for key in ('transforms', 'policies'):
        if isinstance(new.get(key), list) and kind in ('AutoAugment', 'Compose', 'RandomChoice', 'RandomApply'):
            new[key] = _nested(work, new[key])
    return new


def _nested(work: Work, transforms: list[Any]) -> list[Any]:
    """The transforms inside of one that picks among them, or among lists of them."""
    out: list[Any] = []
    for t in transforms:
        if isinstance(t, list):
            out.append(_nested(work, t))
        elif (new := upgrade_transform(work, t)) is not None:
            out.append(new)
    return work.like(transforms, out)


def _rename_storage(work: Work, new: ConfigDict, kind: str) -> None:
    """`file_client_args`: a disk is what everything is read from by default."""
    work.move(new, 'file_client_args', new, 'backend_args')
    args = new['backend_args']
    if not args or args.get('backend') == 'disk':
        del new['backend_args']
    else:
        work.changes.note(f'{kind}.file_client_args', f'{kind}.backend_args')


def _turned(work: Work, kind: str, key: str, value: Any) -> Any:
    if len(value) != 2 or any(isinstance(v, (list, tuple)) for v in value) or value[0] == value[1]:
        return value
    work.changes.note(f'{kind}.{key}', f'{kind}.{key}', 'was (height, width), is (width, height)')
    return type(value)((value[1], value[0]))


def _resize(work: Work, old: ConfigDict) -> ConfigDict:
    """`Resize` to one scale, to one drawn of several, or to one drawn between two or around one."""
    names = dict(old)
    scales = names.pop('img_scale', None)
    mode = names.pop('multiscale_mode', 'range')
    ratio_range = names.pop('ratio_range', None)
    names.pop('override', None)    # a second resizing needs no leave now
    names['keep_ratio'] = names.pop('keep_ratio', True)    # its default was True, and is False
    single = _is_scale(scales)
    several = [] if scales is None or single else list(scales)
    if len(several) == 1:
        scales, several, single = several[0], [], True
    if mode not in ('range', 'value'):
        work.fail(old, 'multiscale_mode', 'Resize.multiscale_mode', f"it is 'range' or 'value'; found {mode!r}")
    if several and mode == 'value':
        kind, given = 'RandomChoiceResize', {'scales': several}
    elif several:
        if len(several) != 2:
            work.fail(old, 'img_scale', 'Resize.img_scale', f"with multiscale_mode='range' it is two scales; found "
                      f'{len(several)}')
        kind, given = 'RandomResize', {'scale': several}
    elif single and ratio_range is not None:
        kind, given = 'RandomResize', {'scale': scales, 'ratio_range': ratio_range}
    else:
        kind, given = 'Resize', {} if scales is None else {'scale': scales}
    new = work.like(old, {'type': kind, **given, **{_RESIZE.get(k, k): v for k, v in names.items() if k != 'type'}})
    for key in ('scale', 'scales'):
        if key in new:
            work.put(new, key, new[key], old, 'img_scale')
            work.changes.note('Resize.img_scale', f'{kind}.{key}')
    return new


def _is_scale(value: Any) -> bool:
    """Whether `value` is one (w, h), not a list of them."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value)


def _random_crop(work: Work, old: ConfigDict) -> ConfigDict:
    new: ConfigDict = work.like(old, old)
    if old.get('crop_type') != 'absolute_range' and isinstance(old.get('crop_size'), (list, tuple)):
        new['crop_size'] = _turned(work, 'RandomCrop', 'crop_size', old['crop_size'])    # a range has no sides
    return new


def _random_flip(work: Work, old: ConfigDict) -> ConfigDict | None:
    return work.like(old, old) if old.get('flip_ratio', old.get('prob')) is not None else None    # it flips nothing


def _albu(work: Work, old: ConfigDict) -> ConfigDict:
    """Albumentations: labels have another name, and whether an object is ignored goes with them."""
    new: ConfigDict = work.like(old, old)
    params = old.get('bbox_params')
    if isinstance(params, dict) and 'gt_labels' in (params.get('label_fields') or ()):
        fields = [f for f in params['label_fields'] if f != 'gt_labels']
        new['bbox_params'] = work.like(params, params)
        new['bbox_params']['label_fields'] = ['gt_bboxes_labels', 'gt_ignore_flags', *fields]
        work.changes.note('Albu.bbox_params.label_fields', 'Albu.bbox_params.label_fields',
                          'gt_labels is gt_bboxes_labels; gt_ignore_flags goes with it')
    return new


_SPECIAL: Mapping[str, Callable[[Work, ConfigDict], ConfigDict | None]] = {
    'Resize': _resize, 'RandomCrop': _random_crop, 'RandomFlip': _random_flip, 'Albu': _albu}
