"""Weights of Megvii's YOLOX, nano to x, under our names.

The configs `yolox/yolox_*` describe the models that the published ones (since version 0.1.1, for images in 0..255) fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from omnidet.checkpoints.renaming import Table, keep_rows, rename
from omnidet.errors import CheckpointError

YOLOX: Table = (
    (r'backbone\.backbone\.stem\.', 'backbone.stem.'),
    (r'backbone\.backbone\.dark(\d)\.', lambda m: f'backbone.stage{int(m[1]) - 1}.'),
    (r'backbone\.lateral_conv0\.', 'neck.reduce_layers.0.'),
    (r'backbone\.reduce_conv1\.', 'neck.reduce_layers.1.'),
    (r'backbone\.C3_p4\.', 'neck.top_down_blocks.0.'),
    (r'backbone\.C3_p3\.', 'neck.top_down_blocks.1.'),
    (r'backbone\.bu_conv2\.', 'neck.downsamples.0.'),
    (r'backbone\.bu_conv1\.', 'neck.downsamples.1.'),
    (r'backbone\.C3_n3\.', 'neck.bottom_up_blocks.0.'),
    (r'backbone\.C3_n4\.', 'neck.bottom_up_blocks.1.'),
    (r'head\.stems\.', 'neck.out_convs.'),
    (r'head\.(cls|reg)_convs\.', r'bbox_head.multi_level_\1_convs.'),
    (r'head\.(cls|reg|obj)_preds\.', r'bbox_head.multi_level_conv_\1.'),
)

_CSP = re.compile(r'^(backbone\.stage(?:[123]\.1|4\.2)|neck\.(?:top_down|bottom_up)_blocks\.\d)\.(conv[123]|m)\.')
_CSP_PARTS = {'conv1': 'main_conv', 'conv2': 'short_conv', 'conv3': 'final_conv', 'm': 'blocks'}


def convert_megvii_yolox(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                         ) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of Megvii's YOLOX as our `YOLOX` names them.

    Args:
        state: the state dict of its model.
        classes: the classes to keep, in the order that they should have; all where None.

    Returns:
        A state dict, and the names that have no place in it.

    Raises:
        CheckpointError: a weight is missing, or a class that is asked for.
    """
    renamed, unused = rename(state, YOLOX)
    out = {_within_parts(name): value for name, value in renamed.items()}
    if 'bbox_head.multi_level_conv_cls.0.weight' not in out:
        raise CheckpointError('the weights lack head.cls_preds.0.weight; they are no whole detector')
    if classes is not None:
        for name in [n for n in out if n.startswith('bbox_head.multi_level_conv_cls.') and n.endswith('.weight')]:
            keep_rows(out, name.removesuffix('.weight'), classes)
    return out, unused


def _within_parts(name: str) -> str:
    """The names within CSP layers and depthwise convolutions."""
    name = _CSP.sub(lambda m: f'{m[1]}.{_CSP_PARTS[m[2]]}.', name)
    return name.replace('.dconv.', '.depthwise_conv.').replace('.pconv.', '.pointwise_conv.')
