"""Weights of torchvision's RetinaNet with ResNet-FPN, of both versions, under our names.

The config `torchvision/retinanet_r50_fpn_coco` describes the model that the first version's fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from omnidet.checkpoints.renaming import Table, inverted, keep_rows, rename
from omnidet.checkpoints.torchvision_detection import NAMES, kept_classes
from omnidet.errors import CheckpointError


def _head(theirs: str, tower: str, last: str, ours: str) -> Table:
    conv = rf'head\.{theirs}_head\.conv\.'
    return ((conv + r'(\d)\.0\.', rf'bbox_head.{tower}.\1.conv.'), (conv + r'(\d)\.1\.', rf'bbox_head.{tower}.\1.gn.'),
            (conv + r'(\d)\.', lambda m: f'bbox_head.{tower}.{int(m[1]) // 2}.conv.'),    # old files count ReLUs too
            (rf'head\.{theirs}_head\.{last}\.', f'bbox_head.{ours}.'))


RETINANET: Table = (
    (r'backbone\.fpn\.extra_blocks\.p6\.', 'neck.fpn_convs.3.conv.'),
    (r'backbone\.fpn\.extra_blocks\.p7\.', 'neck.fpn_convs.4.conv.'),
    *(row for row in NAMES if row[0].startswith('backbone')),
    *_head('classification', 'cls_convs', 'cls_logits', 'retina_cls'),
    *_head('regression', 'reg_convs', 'bbox_reg', 'retina_reg'),
)


NEVER = -20.0
"""A logit whose sigmoid is nothing."""


def convert_torchvision_retinanet(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                                  ) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a torchvision RetinaNet as our `RetinaNet` names them.

    Args:
        state: the state dict of torchvision's model, which has nine anchors in a cell.
        classes: the classes to keep, numbered as torchvision does, in the order that they should have; all where None
            but class 0, which torchvision does not use.

    Returns:
        A state dict, and the names that have no place in it.

    Raises:
        CheckpointError: a weight is missing, or a class that is asked for.
    """
    out, unused = rename(state, RETINANET)
    if not {'bbox_head.retina_cls.bias', 'bbox_head.retina_reg.bias'} <= out.keys():
        raise CheckpointError('the weights lack head.classification_head.cls_logits.bias or '
                              'head.regression_head.bbox_reg.bias; they are no whole detector')
    anchors = len(out['bbox_head.retina_reg.bias']) // 4
    total = len(out['bbox_head.retina_cls.bias']) // anchors
    kept = kept_classes(total, classes)
    keep_rows(out, 'bbox_head.retina_cls', [a * total + c for a in range(anchors) for c in kept])
    return out, unused


def to_torchvision_retinanet(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of our RetinaNet as torchvision names them, and the names that have no place there.

    torchvision's class 0, which it does not use, is never predicted.
    """
    out = dict(state)
    anchors = len(out['bbox_head.retina_reg.bias']) // 4
    for suffix, unused in (('weight', 0.0), ('bias', NEVER)):
        rows = out[f'bbox_head.retina_cls.{suffix}'].unflatten(0, (anchors, -1))
        first = torch.full_like(rows[:, :1], unused)
        out[f'bbox_head.retina_cls.{suffix}'] = torch.cat([first, rows], 1).flatten(0, 1)
    return rename(out, inverted(RETINANET))
