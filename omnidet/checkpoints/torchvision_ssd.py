"""Weights of torchvision's SSD300 with VGG-16, under our names.

The config `torchvision/ssd300_vgg16_coco` describes the model that they fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from omnidet.checkpoints.renaming import Table, keep_rows, rename
from omnidet.checkpoints.torchvision_detection import kept_classes
from omnidet.errors import CheckpointError

SSD: Table = (
    (r'backbone\.scale_weight$', 'neck.l2_norm.weight'),
    (r'backbone\.features\.', 'backbone.features.'),
    (r'backbone\.extra\.0\.7\.(\d)\.', lambda m: f'backbone.features.{30 + int(m[1])}.'),    # after 30, a pooling
    (r'backbone\.extra\.0\.(\d)\.', lambda m: f'backbone.features.{23 + int(m[1])}.'),    # after 23, a pooling
    (r'backbone\.extra\.(\d)\.([02])\.', lambda m: f'neck.extra_layers.{int(m[1]) - 1}.{int(m[2]) // 2}.conv.'),
    (r'head\.classification_head\.module_list\.(\d)\.', r'bbox_head.cls_convs.\1.0.'),
    (r'head\.regression_head\.module_list\.(\d)\.', r'bbox_head.reg_convs.\1.0.'),
)
SIDES = 4


def convert_torchvision_ssd(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                            ) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a torchvision SSD300 as our `SingleStageDetector` with `SSDVGG` names them.

    torchvision has the background as class 0; here it is the last one.

    Args:
        state: the state dict of torchvision's model.
        classes: the classes to keep, numbered as torchvision does, in the order that they should have; all but the
            background where None. A score then no longer shares its softmax with the others.

    Returns:
        A state dict, and the names that have no place in it.

    Raises:
        CheckpointError: a weight is missing, or a class that is asked for.
    """
    out, unused = rename(state, SSD)
    levels = [name.removesuffix('.bias') for name in out if name.startswith('bbox_head.cls_convs') and 'bias' in name]
    if not levels:
        raise CheckpointError('the weights lack head.classification_head.module_list; they are no whole detector')
    for layer in levels:
        boxes = f'{layer}.bias'.replace('cls_convs', 'reg_convs')
        if boxes not in out:
            raise CheckpointError(f'the weights have {layer}, but lack {boxes}')
        anchors = len(out[boxes]) // SIDES
        total = len(out[f'{layer}.bias']) // anchors
        kept = [*kept_classes(total, classes), 0]
        keep_rows(out, layer, [a * total + c for a in range(anchors) for c in kept])
    return out, unused
