"""`model.data_preprocessor`: what pipelines of 2.x did to every image at their end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omnidet.config.nodes import ConfigDict, walk
from omnidet.config.upgrade.pipelines import Facts
from omnidet.config.upgrade.work import Work

SEG_SCALES = {'FusedSemanticHead': 'seg_scale_factor', 'SCNetSemanticHead': 'seg_scale_factor',
              'PanopticFPNHead': 'seg_rescale_factor'}
"""Where a head is told how much smaller its semantic ground truth is to be."""


def upgrade_preprocessor(work: Work, train: Iterable[Facts], test: Iterable[Facts]) -> None:
    """Fill `model.data_preprocessor`; what is there already and not contradicted stays.

    Args:
        work: the upgrade.
        train: what the training pipelines said; empty where the config has none of 2.x.
        test: likewise for validation and test.
    """
    training, testing = [f for f in train if f.packs], [f for f in test if f.packs]
    if not training and not testing:
        return
    model = work.cfg.get('model')
    home = model if isinstance(model, ConfigDict) else work.cfg    # a file of data alone has no model
    old = home.get('data_preprocessor') or ConfigDict(type='DetDataPreprocessor')
    new = ConfigDict(old)
    _normalising(work, new, [f.normalize for f in (*training, *testing)])
    _padding(work, new, training, testing)
    keys = {k for f in training for k in f.keys}
    if 'gt_masks' in keys:
        new['pad_mask'] = True
    if 'gt_semantic_seg' in keys:
        new['pad_seg'], new['seg_pad_value'] = True, 255
    home['data_preprocessor'] = new
    work.take('img_norm_cfg')
    for scale in {f.seg_scale for f in training if f.seg_scale}:
        _seg_scale(work, scale)


def _normalising(work: Work, new: ConfigDict, found: list[ConfigDict]) -> None:
    kinds = [n for i, n in enumerate(found) if n and all(dict(n) != dict(m) for m in found[:i])]
    if not kinds:
        return
    for other in kinds[1:]:
        work.changes.note('Normalize', '', f'a second one is left out, all images are normalised alike: '
                                           f'mean={other.get("mean")}, std={other.get("std")}')
    for key in ('mean', 'std'):
        if key in kinds[0]:
            work.put(new, key, kinds[0][key], kinds[0], key)
    new.pop('rgb_to_bgr', None)
    work.put(new, 'bgr_to_rgb', kinds[0].get('to_rgb', True), kinds[0], 'to_rgb')


def _padding(work: Work, new: ConfigDict, training: list[Facts], testing: list[Facts]) -> None:
    """A multiple for all images; a fixed size for training images, and for square ones that is a multiple too."""
    sizes = {f.size for f in training if f.size}
    divisors = dict.fromkeys(f.divisor for f in (*testing, *training) if f.divisor)
    square = [f.size[0] for f in testing if f.size and f.size[0] == f.size[1]]
    if square:
        divisors = {square[0]: None, **divisors}
    elif any(f.size for f in testing):
        work.changes.note('Pad.size', '', 'test images are not padded to a fixed size that is no square')
    if divisors:
        new['pad_size_divisor'] = next(iter(divisors))
    for divisor in list(divisors)[1:]:
        if not square:
            work.changes.note('Pad.size_divisor', '', f'all images are padded to one multiple, not some to {divisor}')
    if sizes:
        keys = {k for f in training for k in f.keys}
        pad = ConfigDict(type='BatchFixedSizePad', size=next(iter(sizes)))
        pad.update({'pad_mask': True} if 'gt_masks' in keys else {})
        pad.update({'pad_seg': True} if 'gt_semantic_seg' in keys else {})
        new['batch_augments'] = [pad]
        work.changes.note('Pad.size', 'model.data_preprocessor.batch_augments')


def _seg_scale(work: Work, scale: float) -> None:
    heads: list[tuple[str, Any]] = [(SEG_SCALES[t], d) for _, d in walk(work.cfg.get('model'))
                                    if isinstance(d, ConfigDict) and (t := str(d.get('type'))) in SEG_SCALES]
    for key, head in heads:
        head[key] = scale
        work.changes.note('SegRescale.scale_factor', f'{head["type"]}.{key}')
    if not heads:
        work.changes.note('SegRescale', '', 'the model has no head that is known to take smaller semantic maps')
