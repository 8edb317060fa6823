"""Pipelines of 2.x: their transforms one by one, and what 3.x does elsewhere: normalising, padding, several views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omnidet.config.nodes import ConfigDict, walk
from omnidet.config.upgrade.transforms import upgrade_transform
from omnidet.config.upgrade.work import Work, listed

TENSORS = ('DefaultFormatBundle', 'ImageToTensor', 'ToTensor', 'ToDataContainer', 'Transpose', 'WrapFieldsToLists')
"""Transforms that made tensors; `PackDetInputs` does."""

TEST_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
TRAIN_KEYS = (*TEST_KEYS, 'flip', 'flip_direction')
OLD_KEYS = frozenset({'filename', 'ori_filename', 'pad_shape', 'img_norm_cfg', *TRAIN_KEYS})
"""Meta data that 3.x has by another name, or keeps without being asked."""

NEW = ('PackDetInputs', 'RandomResize', 'RandomChoiceResize', 'RandomChoice')
NEW_ARGUMENTS = (('Resize', 'scale'), ('RandomFlip', 'prob'))
"""What tells a pipeline of 3.x, also one that does not pack."""

LOADS = ('LoadAnnotations', 'LoadPanopticAnnotations')
MOVES = ('Resize', 'RandomResize', 'RandomChoiceResize', 'RandomFlip')
"""Transforms that must take proposals along."""


@dataclass
class Facts:
    """What a pipeline says that 3.x keeps in the model, or in a pipeline of its own.

    Attributes:
        packs: whether it ends in samples for the model; the inner one of `MultiImageMixDataset` does not.
        normalize: `Normalize`, and {} where there is none.
        divisor: the multiple that images are padded to, 0 where they are not.
        size: the (h, w) that images are padded to, () where they are not.
        keys: what `Collect` kept.
        seg_scale: what `SegRescale` did, 0 where there is none.
        tta: the pipeline for several views of an image, [] where there is one view.
    """

    packs: bool
    normalize: ConfigDict = field(default_factory=ConfigDict)
    divisor: int = 0
    size: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    seg_scale: float = 0
    tta: list[Any] = field(default_factory=list)


@dataclass
class Views:
    """`MultiScaleFlipAug`: the views of an image that are looked at.

    Attributes:
        resize: the transform that makes the sizes, None where there is none.
        sizes: its `scale` or `scale_factor`, one for each size.
        flips: the directions of flipping.
        start: the place of its first transform in the pipeline of one view.
        resize_at, flip_at: those of resizing and of flipping, -1 where there is none.
    """

    sizes: list[dict[str, Any]]
    flips: list[str]
    start: int
    resize: ConfigDict | None = None
    resize_at: int = -1
    flip_at: int = -1


def is_old(pipeline: Any) -> bool:
    """Whether a list is a pipeline of 2.x, or may be: nothing in it is as only 3.x has it."""
    if not isinstance(pipeline, list) or not pipeline or not all(isinstance(t, dict) and 'type' in t for t in pipeline):
        return False
    return not any(kind_of(t) in NEW or any((kind_of(t), k) in NEW_ARGUMENTS for k in t)
                   for _, t in walk(pipeline) if isinstance(t, dict))


def is_test(pipeline: Sequence[Any]) -> bool:
    """Whether a pipeline of 2.x is one for validation and test."""
    return any(kind_of(t) == 'MultiScaleFlipAug' for t in pipeline)


def kind_of(transform: Any) -> str:
    """The type of a transform, without a scope."""
    return str(transform.get('type', '')).removeprefix('mmdet.') if isinstance(transform, dict) else ''


def upgrade_pipeline(work: Work, pipeline: list[Any], annotations: ConfigDict | None = None) -> tuple[list[Any], Facts]:
    """A pipeline in the form of 3.x, and what it said besides.

    Args:
        work: the upgrade.
        pipeline: of 2.x; it stays as it is.
        annotations: the transform that loads annotations, where the pipeline is one for validation or test.
    """
    facts = Facts(packs=any(kind_of(t) == 'Collect' for _, t in walk(pipeline)))
    out: list[Any] = []
    views = None
    for old in pipeline:
        if kind_of(old) == 'MultiScaleFlipAug':
            views = _views(work, old, facts, out)
        else:
            out += _one(work, old, facts)
    if annotations is not None:
        out = _for_test(out, annotations)
    if views is not None and (len(views.sizes) > 1 or views.flips):
        work.changes.note('MultiScaleFlipAug', 'tta_pipeline', 'several views of an image are taken with --tta only')
        facts.tta = _tta(work, out, views)
    return work.like(pipeline, _broadcast(out)), facts


def _one(work: Work, old: ConfigDict, facts: Facts) -> list[ConfigDict]:
    """What becomes of one transform: nothing, or one transform."""
    kind = kind_of(old)
    if kind in TENSORS:
        work.changes.note(kind, 'PackDetInputs')
        return []
    if kind == 'Normalize':
        facts.normalize = old
        work.changes.note('Normalize', 'model.data_preprocessor')
        return []
    if kind == 'SegRescale':
        facts.seg_scale = old.get('scale_factor', 1)
        return []
    if kind == 'Pad' and facts.packs and not old.get('pad_to_square'):
        _padding(work, old, facts)
        return []
    if kind == 'Collect':
        facts.keys = tuple(old.get('keys', ()))
        work.changes.note('Collect', 'PackDetInputs')
        extra = tuple(k for k in old.get('meta_keys', ()) if k not in OLD_KEYS)
        return [work.like(old, {'type': 'PackDetInputs', **({'meta_keys': (*TRAIN_KEYS, *extra)} if extra else {})})]
    new = upgrade_transform(work, old)
    return [] if new is None else [new]


def _padding(work: Work, old: ConfigDict, facts: Facts) -> None:
    """`Pad` at the end of a pipeline, which the preprocessor does."""
    if old.get('size') is not None:
        facts.size = tuple(old['size'])
    else:
        facts.divisor = int(old.get('size_divisor') or 0)
    value = old.get('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, dict) else value
    work.changes.note('Pad', 'model.data_preprocessor',
                      f'it pads with 0 after normalising, not with {value} before' if any(listed(value)) else '')


def _views(work: Work, old: ConfigDict, facts: Facts, out: list[Any]) -> Views:
    """Append the transforms of the first view to `out`."""
    scales = old.get('img_scale')
    if scales is None:
        sizes = [{'scale_factor': f} for f in listed(old.get('scale_factor', 1.0))]
    else:
        several = isinstance(scales, list) and not all(isinstance(s, int) for s in scales)
        sizes = [{'scale': s} for s in (scales if several else [scales])]
    flips = listed(old.get('flip_direction', 'horizontal')) if old.get('flip', False) else []
    views = Views(sizes, flips, start=len(out))
    work.changes.note('MultiScaleFlipAug', 'test_pipeline', 'what it held stands in the pipeline itself')
    for t in old.get('transforms', ()):
        if kind_of(t) == 'RandomFlip':
            # before what pads to one side or the other: flipping does not move the offset that padding notes
            views.flip_at = next((i for i, o in enumerate(out) if kind_of(o) == 'RandomCenterCropPad'), len(out))
        elif kind_of(t) == 'Resize':
            views.resize = upgrade_transform(work, t)
            views.resize_at = len(out)
            if sizes != [{'scale_factor': 1.0}]:
                out.append(_sized(work, views.resize, sizes[0]))
        else:
            out += _one(work, t, facts)
    return views


def _sized(work: Work, resize: ConfigDict | None, size: dict[str, Any]) -> ConfigDict:
    assert resize is not None
    new: ConfigDict = work.like(resize, {'type': 'Resize', **size, **{k: v for k, v in resize.items() if k != 'type'}})
    return new


def _for_test(pipeline: list[Any], annotations: ConfigDict) -> list[Any]:
    """The pipeline with annotations loaded before it packs, and the meta data that 3.x keeps there."""
    out = []
    loads = any(kind_of(t) in (*LOADS, 'LoadProposals') for t in pipeline)
    for t in pipeline:
        if kind_of(t) == 'PackDetInputs':
            out += [] if loads else [annotations]
            extra = tuple(k for k in t.get('meta_keys', ()) if k not in TRAIN_KEYS)
            t['meta_keys'] = (*TEST_KEYS, *extra)
        out.append(t)
    return out


def _tta(work: Work, pipeline: list[Any], views: Views) -> list[Any]:
    """`pipeline` with all from `views.start` on in `TestTimeAug`, which has a choice wherever the views differ."""
    steps: list[Any] = []
    resized = views.resize is not None and views.sizes != [{'scale_factor': 1.0}]
    for i in range(views.start, len(pipeline)):
        if i == views.flip_at and views.flips:
            steps.append([*(_flip(1.0, d) for d in views.flips), ConfigDict(type='RandomFlip', prob=0.0)])
        t = work.copy(pipeline[i])
        if kind_of(t) == 'PackDetInputs':
            t['meta_keys'] = (*t.get('meta_keys', TEST_KEYS), 'flip', 'flip_direction')
        sizes = i == views.resize_at and resized
        steps.append([_sized(work, views.resize, size) for size in views.sizes] if sizes else [t])
    return [*work.copy(pipeline[:views.start]), ConfigDict(type='TestTimeAug', transforms=steps)]


def _flip(prob: float, direction: str) -> ConfigDict:
    other = {} if direction == 'horizontal' else {'direction': direction}
    return ConfigDict(type='RandomFlip', prob=prob, **other)


def _broadcast(pipeline: list[Any]) -> list[Any]:
    """Resizing and flipping inside of `ProposalBroadcaster`, where the pipeline loads proposals."""
    inside = [t for t in pipeline if kind_of(t) in MOVES]
    if not inside or not any(kind_of(t) == 'LoadProposals' for t in pipeline):
        return pipeline
    first = next(i for i, t in enumerate(pipeline) if kind_of(t) in MOVES)
    rest = [t for t in pipeline if kind_of(t) not in MOVES]
    return [*rest[:first], ConfigDict(type='ProposalBroadcaster', transforms=inside), *rest[first:]]
