"""Weights of torchvision's FCOS with ResNet-FPN, under our names.

The config `torchvision/fcos_r50_fpn_coco` describes the model that they fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from omnidet.checkpoints.renaming import Table, keep_rows, rename
from omnidet.checkpoints.torchvision_detection import NAMES, kept_classes
from omnidet.errors import CheckpointError

LEVELS = 5


def _tower(theirs: str, ours: str) -> Table:
    """Layers are numbered convolution, norm, activation, convolution, ..."""
    convs = [(rf'head\.{theirs}_head\.conv\.{3 * i}\.', f'bbox_head.{ours}.{i}.conv.') for i in range(4)]
    norms = [(rf'head\.{theirs}_head\.conv\.{3 * i + 1}\.', f'bbox_head.{ours}.{i}.gn.') for i in range(4)]
    return (*convs, *norms)


FCOS: Table = (
    *(row for row in NAMES if row[0].startswith('backbone')),
    (r'backbone\.fpn\.extra_blocks\.p6\.', 'neck.fpn_convs.3.conv.'),
    (r'backbone\.fpn\.extra_blocks\.p7\.', 'neck.fpn_convs.4.conv.'),
    *_tower('classification', 'cls_convs'),
    *_tower('regression', 'reg_convs'),
    (r'head\.classification_head\.cls_logits\.', 'bbox_head.conv_cls.'),
    (r'head\.regression_head\.bbox_reg\.', 'bbox_head.conv_reg.'),
    (r'head\.regression_head\.bbox_ctrness\.', 'bbox_head.conv_centerness.'),
)


def convert_torchvision_fcos(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                             ) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a torchvision FCOS as our `FCOS` names them.

    torchvision has no factor for each level, so ours are 1.

    Args:
        state: the state dict of torchvision's model.
        classes: the classes to keep, numbered as torchvision does, in the order that they should have; all where None
            but class 0, which torchvision does not use.

    Returns:
        A state dict, and the names that have no place in it.

    Raises:
        CheckpointError: a weight is missing, or a class that is asked for.
    """
    out, unused = rename(state, FCOS)
    if 'bbox_head.conv_cls.bias' not in out:
        raise CheckpointError('the weights lack head.classification_head.cls_logits.bias; they are no whole detector')
    keep_rows(out, 'bbox_head.conv_cls', kept_classes(len(out['bbox_head.conv_cls.bias']), classes))
    return {**out, **{f'bbox_head.scales.{i}.scale': torch.ones(()) for i in range(LEVELS)}}, unused
