"""Transforms of the albumentations library, which is an extra: `pip install omnidet[albu]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from omnidet.data.masks import BitmapMasks
from omnidet.data.transforms.base import BaseTransform, Results, keep_instances
from omnidet.data.transforms.geometric import clip_boxes
from omnidet.errors import ConfigError, did_you_mean
from omnidet.registry import TRANSFORMS

KEYMAP = {'img': 'image', 'gt_masks': 'masks', 'gt_bboxes': 'bboxes'}
INDEX = 'instance'


@TRANSFORMS.register
class Albu(BaseTransform):
    """Run transforms of albumentations (MIT licence; not AlbumentationsX, which is AGPL).

    Labels, ignore flags and masks follow the boxes that are left, whatever `bbox_params` lists; a semantic map goes
    along. Where `bbox_params` is not given, boxes stay as they are, and the transforms should change colours alone.

    Args:
        transforms: configs, of `type` and arguments, nested in `transforms` where one takes others (OneOf).
        bbox_params: dict(type='BboxParams', format='pascal_voc', min_area=..., min_visibility=..., label_fields=...,
            filter_lost_elements=...); the last two are accepted, since all fields of an instance follow its box.
        keymap: this package's names to those of albumentations; img, gt_masks and gt_bboxes by default.
        skip_img_without_anno: drop an image of which no box is left.
    """

    FOREIGN_PARTS = ('transforms', 'bbox_params')    # their types are names of albumentations

    def __init__(self, transforms: Sequence[Mapping[str, Any]], bbox_params: Mapping[str, Any] | None = None,
                 keymap: Mapping[str, str] | None = None, skip_img_without_anno: bool = False) -> None:
        library = _library()
        self.keymap = dict(KEYMAP if keymap is None else keymap)
        unknown = set(self.keymap) - {*KEYMAP, 'gt_seg_map'}
        if unknown:
            raise ConfigError(f'Albu.keymap: {sorted(unknown)[0]!r} is none of {", ".join(KEYMAP)} and gt_seg_map')
        self.with_boxes = bbox_params is not None
        params = {k: v for k, v in (bbox_params or {}).items() if k not in ('type', 'filter_lost_elements')}
        if params.get('format', 'pascal_voc') != 'pascal_voc':
            raise ConfigError(f"Albu.bbox_params.format: boxes are 'pascal_voc' here; found {params['format']!r}")
        params.update(format='pascal_voc', label_fields=[INDEX])
        self.compose = library.Compose([_build(library, t) for t in transforms],
                                       bbox_params=library.BboxParams(**params) if self.with_boxes else None)
        self.skip_img_without_anno = skip_img_without_anno

    def transform(self, results: Results) -> Results | None:
        # its own generator, seeded by ours: what a sample becomes is a function of its key
        self.compose.set_random_seed(int(np.random.randint(1 << 31)))
        masks = results['gt_masks'].to_bitmap() if results.get('gt_masks') is not None else None
        given: dict[str, Any] = {'image': np.ascontiguousarray(results['img'])}
        boxes = results.get('gt_bboxes') if self.with_boxes else None
        if boxes is not None:
            boxes = clip_boxes(boxes, results['img'].shape[:2])
            real = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))    # it refuses those without extent
            given |= {'bboxes': boxes[real], INDEX: real}
        if masks is not None and len(masks):
            given['masks'] = list(masks)
        if results.get('gt_seg_map') is not None:
            given['mask'] = results['gt_seg_map']
        out = self.compose(**given)
        results['img'] = out['image']
        h, w = results['img_shape'] = out['image'].shape[:2]
        if masks is not None:
            results['gt_masks'] = BitmapMasks(out['masks'] if len(masks) else np.zeros((0, h, w)), h, w)
        if 'mask' in given:
            results['gt_seg_map'] = out['mask']
        if boxes is not None:
            results = keep_instances(results, np.asarray(out[INDEX], np.int64).reshape(-1))
            results['gt_bboxes'] = np.asarray(out['bboxes'], np.float32).reshape(-1, 4)
            if self.skip_img_without_anno and not len(results['gt_bboxes']):
                return None
        return results


def _library() -> Any:
    try:
        import albumentations
    except ImportError as e:
        raise ConfigError('Albu needs the library albumentations: pip install omnidet[albu]') from e
    return albumentations


def _build(library: Any, cfg: Any) -> Any:
    """A transform of the library, with those inside it; names and arguments of older versions are known."""
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f'Albu.transforms: a dict with a type is wanted; found {cfg!r}')
    args = {k: v for k, v in cfg.items() if k != 'type'}
    name = cfg['type']
    if 'transforms' in args:
        args['transforms'] = [_build(library, t) for t in args['transforms']]
    if name == 'JpegCompression' and not hasattr(library, name):
        name = 'ImageCompression'
        args['quality_range'] = (args.pop('quality_lower', 99), args.pop('quality_upper', 100))
    if not isinstance(name, str):
        return name(**args)
    made = getattr(library, name, None)
    if not isinstance(made, type) or not issubclass(made, (library.BasicTransform, library.BaseCompose)):
        raise ConfigError(f'Albu.transforms: albumentations {library.__version__} has no transform {name!r}'
                          f'{did_you_mean(name, dir(library))}')
    try:
        return made(**{k: tuple(v) if isinstance(v, list) and k != 'transforms' else v for k, v in args.items()})
    except (TypeError, ValueError) as e:
        raise ConfigError(f'Albu.transforms: {name}: {e}') from e
