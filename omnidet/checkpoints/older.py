"""Weights that older releases of MMDetection wrote: under other names, and before 2.0 with the background as class 0.

A name is changed only where the model has no such name, and has the one that it would become.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omnidet.checkpoints.renaming import Table, new_name


class Release(NamedTuple):
    """What changed at one time.

    Attributes:
        what: the weights with the older names.
        table: how their names begin, and what this became.
        mark: a name that the model must have, where two models' layers became different things.
    """

    what: str
    table: Table
    mark: str = ''


_DETR, _LAYER = r'bbox_head\.transformer\.', r'bbox_head\.transformer\.(encoder|decoder)\.layers\.(\d+)\.'
_MASKS = r'panoptic_head\.transformer_decoder\.layers\.(\d+)\.'
_PIXELS = r'panoptic_head\.(pixel_decoder\.encoder|transformer_decoder)\.layers\.(\d+)\.'
_OURS = r'panoptic_head.transformer_decoder.layers.\1.'

RELEASES = (
    Release('MMDetection before 1.0: RetinaNet, whose convolutions had no wrapper', (
        (r'bbox_head\.(cls|reg)_convs\.(\d+)\.(weight|bias)$', r'bbox_head.\1_convs.\2.conv.\3'),)),
    Release('MMDetection 1.x: deformable convolutions', ((r'(.+)\.(conv\d)_offset\.', r'\1.\2.conv_offset.'),)),
    Release('MMDetection 1.x: detectors in two stages', (
        (r'((?:bbox|mask|semantic|grid|mask_iou|shared|glbctx)_head)\.', r'roi_head.\1.'),)),
    Release('MMDetection 1.x: FCOS and FoveaBox', (
        (r'bbox_head\.(?:fcos|fovea)_(cls|reg|centerness)\.', r'bbox_head.conv_\1.'),)),
    Release('MMDetection before 2.14: SSD', (
        (r'backbone\.extra\.(\d+)\.', lambda m: f'neck.extra_layers.{int(m[1]) // 2}.{int(m[1]) % 2}.conv.'),
        (r'backbone\.l2_norm\.', 'neck.l2_norm.'),
        (r'bbox_head\.(cls|reg)_convs\.(\d+)\.(weight|bias)$', r'bbox_head.\1_convs.\2.0.\3'))),
    Release('MMDetection 2.x: YOLACT', ((r'segm_head\.', 'mask_head.segm_branch.'),)),
    Release('MMDetection 2.x: DETR and its kin', (    # with the names of before 2.11 in the second place
        (_LAYER + r'(?:attentions\.0|self_attn)\.', r'\1.layers.\2.self_attn.'),
        (_LAYER + r'(?:attentions\.1|multihead_attn)\.', r'\1.layers.\2.cross_attn.'),
        (_LAYER + r'(?:ffns\.0|ffn)\.', r'\1.layers.\2.ffn.'),
        (_LAYER + r'norms\.', r'\1.layers.\2.norms.'),
        (_DETR + r'(encoder|decoder)\.(?:post_norm|norm)\.', r'\1.post_norm.'),
        (_DETR + r'level_embeds$', 'level_embed'),
        (_DETR + r'reference_points\.', 'reference_points_fc.'),
        (_DETR + r'enc_output\.', 'memory_trans_fc.'),
        (_DETR + r'enc_output_norm\.', 'memory_trans_norm.'),
        (_DETR + r'pos_trans\.', 'pos_trans_fc.'),
        (_DETR + r'pos_trans_norm\.', 'pos_trans_norm.'),
        (r'bbox_head\.input_proj\.', 'neck.convs.0.conv.'),
        (r'bbox_head\.query_embedding\.', 'query_embedding.'))),
    Release('MMDetection 2.x: Mask2Former', (    # whose queries look at pixels first, then at each other
        (_MASKS + r'attentions\.0\.', _OURS + 'cross_attn.'),
        (_MASKS + r'attentions\.1\.', _OURS + 'self_attn.')), mark='panoptic_head.query_feat.weight'),
    Release('MMDetection 2.x: MaskFormer and Mask2Former', (
        (_PIXELS + r'attentions\.0\.', r'panoptic_head.\1.layers.\2.self_attn.'),
        (_PIXELS + r'attentions\.1\.', r'panoptic_head.\1.layers.\2.cross_attn.'),
        (_PIXELS + r'ffns\.0\.', r'panoptic_head.\1.layers.\2.ffn.'))),
)
"""For each name, the first row counts that leads to a name of the model."""


def current_names(names: Collection[str], own: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The names of a file that are older than the model's, and what they are now.

    Args:
        names: of the file.
        own: of the model.

    Returns:
        {older name: the model's}, and what the file is of.
    """
    renamed: dict[str, str] = {}
    found: list[str] = []
    given = set(names)
    for name in names:
        if name in own:
            continue
        for release in RELEASES:
            new = new_name(name, release.table) if not release.mark or release.mark in own else None
            if new in own and new not in given:    # type: ignore[operator]
                assert new is not None
                renamed[name] = new
                given.add(new)
                if release.what not in found:
                    found.append(release.what)
                break
    return renamed, found


_HEAD = re.compile(r'(bbox|mask|mask_iou)_head\.(?:(\d+)\.)?')


def background_last(state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The weights with the background as the last class, as since 2.0; None where they are so already.

    Before 2.0 it was class 0 under a softmax, and boxes and masks were predicted for it too, which nobody read. Heads
    with sigmoids had no background. Files of before 2.0 are known by their version, and those of two stages also by
    their names.
    """
    two_stages = any(re.match(r'bbox_head\.(\d+\.)?fc_cls\.', k) for k in state)
    old = str(meta.get('mmdet_version', '')).startswith(('0.', '1.'))
    if any(k.startswith('roi_head.') for k in state) or not (
            old or (two_stages and any(k.startswith('rpn_head.') for k in state))):
        return None
    out = dict(state)
    if two_stages:
        _reorder_two_stages(out)
    elif any(k.startswith('backbone.extra.') for k in out):
        _reorder_ssd(out)
    else:
        return None
    return out


def _reorder_two_stages(state: dict[str, Tensor]) -> None:
    """In place."""
    totals = {m[2]: v.numel() for k, v in state.items() if k.endswith('fc_cls.bias') and (m := _HEAD.match(k))}
    for name, value in state.items():
        found = _HEAD.match(name)
        if found is None or not value.ndim:
            continue
        total = totals.get(found[2], next(iter(totals.values()), 0))    # HTC and cascades: a class head for each stage
        layer = name.rpartition('.')[0].rpartition('.')[2]
        if layer == 'fc_cls':
            state[name] = torch.cat([value[1:], value[:1]])
        elif layer in ('fc_reg', 'conv_logits', 'fc_mask_iou') and total > 1:
            sides = 4 if layer == 'fc_reg' else 1
            if len(value) == sides * total:    # else it is the same for all classes
                state[name] = value[sides:]


def _reorder_ssd(state: dict[str, Tensor]) -> None:
    """In place."""
    for name, value in state.items():
        if name.startswith('bbox_head.cls_convs.'):
            boxes = state.get(name.replace('cls_convs', 'reg_convs'))
            anchors = boxes.shape[0] // 4 if boxes is not None and boxes.ndim else 0
            if anchors and value.ndim and len(value) % anchors == 0:
                state[name] = value.unflatten(0, (anchors, -1)).roll(-1, 1).flatten(0, 1)
