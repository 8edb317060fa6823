"""Weights of torchvision's Faster and Mask R-CNN with ResNet-FPN, under our names.

The configs `torchvision/faster-rcnn_r50_fpn_coco` and `torchvision/mask-rcnn_r50_fpn_coco` describe the models that
they fit, with torchvision's anchors, RoIAlign and thresholds: boxes, scores and labels are then torchvision's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from omnidet.checkpoints.renaming import inverted, rename
from omnidet.errors import CheckpointError

COCO_CATEGORIES = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""COCO's 80 categories by their ids, which are their places among torchvision's 91 classes (0 is background)."""

NAMES = (
    (r'backbone\.body\.', 'backbone.'),
    (r'backbone\.fpn\.inner_blocks\.(\d)(\.0)?\.(weight|bias)$', r'neck.lateral_convs.\1.conv.\3'),
    (r'backbone\.fpn\.inner_blocks\.(\d)\.1\.', r'neck.lateral_convs.\1.bn.'),
    (r'backbone\.fpn\.layer_blocks\.(\d)(\.0)?\.(weight|bias)$', r'neck.fpn_convs.\1.conv.\3'),
    (r'backbone\.fpn\.layer_blocks\.(\d)\.1\.', r'neck.fpn_convs.\1.bn.'),
    (r'rpn\.head\.conv\.(\d)\.0\.', r'rpn_head.rpn_conv.\1.conv.'),
    (r'rpn\.head\.conv\.', 'rpn_head.rpn_conv.'),
    (r'rpn\.head\.cls_logits\.', 'rpn_head.rpn_cls.'),
    (r'rpn\.head\.bbox_pred\.', 'rpn_head.rpn_reg.'),
    (r'roi_heads\.box_head\.fc6\.', 'roi_head.bbox_head.shared_fcs.0.'),
    (r'roi_heads\.box_head\.fc7\.', 'roi_head.bbox_head.shared_fcs.1.'),
    (r'roi_heads\.box_head\.(\d)\.0\.', r'roi_head.bbox_head.shared_convs.\1.conv.'),
    (r'roi_heads\.box_head\.(\d)\.1\.', r'roi_head.bbox_head.shared_convs.\1.bn.'),
    (r'roi_heads\.box_head\.5\.', 'roi_head.bbox_head.shared_fcs.0.'),
    (r'roi_heads\.box_predictor\.cls_score\.', 'roi_head.bbox_head.fc_cls.'),
    (r'roi_heads\.box_predictor\.bbox_pred\.', 'roi_head.bbox_head.fc_reg.'),
    (r'roi_heads\.mask_head\.(\d)\.0\.', r'roi_head.mask_head.convs.\1.conv.'),
    *((rf'roi_heads\.mask_head\.mask_fcn{i + 1}\.', f'roi_head.mask_head.convs.{i}.conv.') for i in range(4)),
    (r'roi_heads\.mask_head\.(\d)\.1\.', r'roi_head.mask_head.convs.\1.bn.'),
    (r'roi_heads\.mask_predictor\.conv5_mask\.', 'roi_head.mask_head.upsample.'),
    (r'roi_heads\.mask_predictor\.mask_fcn_logits\.', 'roi_head.mask_head.conv_logits.'),
)
"""How torchvision's names begin, and what they become: of both versions of the models, in new files and old ones.

Where two rows lead to one name, the newer one comes first: it counts when names are turned back.
"""


def convert_torchvision_detection(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                                  ) -> dict[str, Tensor]:
    """The weights of a torchvision Faster or Mask R-CNN with FPN, as our `FasterRCNN` and `MaskRCNN` name them.

    torchvision has the background as class 0, and regresses a box for it; here it is the last class, without a box.
    Its box weights (10, 10, 5, 5) are our `target_stds` (0.1, 0.1, 0.2, 0.2), so deltas need no change.

    Args:
        state: the state dict of torchvision's model.
        classes: the classes to keep, numbered as torchvision does, in the order that they should have; all but the
            background where None. `COCO_CATEGORIES` makes of the published weights a model of our COCO's 80 classes;
            a score then no longer shares its softmax with the unused ones.

    Returns:
        A state dict of the same tensors, those of the last layers rearranged.

    Raises:
        CheckpointError: a name that is none of these models', or a class that the weights do not have.
    """
    one_conv = not any(name.startswith('rpn.head.conv.1.') for name in state)
    out = {}
    for name, value in state.items():
        new = _renamed(name)
        out[new.replace('rpn_conv.0.conv.', 'rpn_conv.') if one_conv else new] = value
    _reorder(out, classes)
    return out


def to_torchvision_detection(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of our Faster or Mask R-CNN as torchvision names them, with the background as class 0.

    Its boxes and masks, which nobody reads, are zero.

    Returns:
        A state dict, and the names that have no place in it.

    Raises:
        CheckpointError: all classes share their boxes or masks, which torchvision does not know.
    """
    named = {re.sub(r'^rpn_head\.rpn_conv\.(weight|bias)$', r'rpn_head.rpn_conv.0.conv.\1', k): v
             for k, v in state.items()}
    head = 'roi_head.bbox_head.'
    classes = len(named[f'{head}fc_cls.bias']) - 1
    for name, value in named.items():
        if name.startswith(f'{head}fc_cls.'):
            named[name] = value.roll(1, 0)
        elif name.startswith((f'{head}fc_reg.', 'roi_head.mask_head.conv_logits.')):
            sides = 4 if 'fc_reg' in name else 1
            if len(value) != sides * classes:
                raise CheckpointError(f'{name} has {len(value)} rows, not {sides} for each of {classes} classes; '
                                      'torchvision has no heads that all classes share')
            named[name] = torch.cat([torch.zeros_like(value[:sides]), value])
    deep = any('.shared_convs.' in name for name in named)    # then their one linear layer has another name
    return rename(named, inverted([row for row in NAMES if not (deep and 'fc6' in row[0])]))


def _renamed(name: str) -> str:
    for pattern, replacement in NAMES:
        new, count = re.subn('^' + pattern, replacement, name)
        if count:
            return new
    raise CheckpointError(f'{name!r} is no weight of torchvision\'s Faster or Mask R-CNN with FPN, whose names begin '
                          'with backbone.body, backbone.fpn, rpn.head and roi_heads')


def _reorder(state: dict[str, Tensor], classes: Sequence[int] | None) -> None:
    """Keep `classes` in the layers that have one output, or four, for each class; in place."""
    head = 'roi_head.bbox_head.fc_cls.weight'
    if head not in state:
        raise CheckpointError('the weights lack roi_heads.box_predictor.cls_score.weight; they are no whole detector')
    total = len(state[head])
    foreground = torch.tensor(kept_classes(total, classes))
    for suffix in ('weight', 'bias'):
        for name, rows in (('bbox_head.fc_cls', torch.cat([foreground, torch.zeros(1, dtype=torch.long)])),
                           ('bbox_head.fc_reg', (foreground[:, None] * 4 + torch.arange(4)).flatten()),
                           ('mask_head.conv_logits', foreground)):
            key = f'roi_head.{name}.{suffix}'
            if key in state:
                state[key] = state[key][rows]


def kept_classes(total: int, classes: Sequence[int] | None) -> list[int]:
    """The classes to keep of torchvision's `total`, of which number 0 is background.

    Raises:
        CheckpointError: one that is asked for is not there.
    """
    kept = list(range(1, total)) if classes is None else list(classes)
    if outside := sorted({c for c in kept if not 0 < c < total}):
        raise CheckpointError(f'the weights have no classes {outside}, but 1 to {total - 1}')
    return kept
