"""Weights of Megvii's YOLOX, nano to x, under our names.

The configs `yolox/yolox_*` describe the models that the published ones (since version 0.1.1, for images in 0..255) fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from omnidet.checkpoints.renaming import Table, inverted, keep_rows, new_name, rename
from omnidet.errors import CheckpointError

YOLOX: Table = (
    (r'backbone\.backbone\.stem\.', 'backbone.stem.'),
    *((rf'backbone\.backbone\.dark{i + 1}\.', f'backbone.stage{i}.') for i in range(1, 5)),
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

_CSP = r'(backbone\.stage[123]\.1|backbone\.stage4\.2|neck\.top_down_blocks\.\d|neck\.bottom_up_blocks\.\d)'

WITHIN: tuple[Table, ...] = (
    ((_CSP + r'\.conv1\.', r'\1.main_conv.'), (_CSP + r'\.conv2\.', r'\1.short_conv.'),
     (_CSP + r'\.conv3\.', r'\1.final_conv.'), (_CSP + r'\.m\.', r'\1.blocks.')),
    ((r'(.+)\.dconv\.', r'\1.depthwise_conv.'), (r'(.+)\.pconv\.', r'\1.pointwise_conv.')),
)
"""The names within CSP layers and depthwise convolutions, one table after the other, for those that have them."""


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
    out = {_within(name, WITHIN): value for name, value in renamed.items()}
    if 'bbox_head.multi_level_conv_cls.0.weight' not in out:
        raise CheckpointError('the weights lack head.cls_preds.0.weight; they are no whole detector')
    if classes is not None:
        for name in [n for n in out if n.startswith('bbox_head.multi_level_conv_cls.') and n.endswith('.weight')]:
            keep_rows(out, name.removesuffix('.weight'), classes)
    return out, unused


def to_megvii_yolox(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of our `YOLOX` as Megvii names them, and the names that have no place there."""
    tables = [inverted(table) for table in reversed(WITHIN)]
    return rename({_within(name, tables): value for name, value in state.items()}, inverted(YOLOX))


def _within(name: str, tables: Sequence[Table]) -> str:
    for table in tables:
        name = new_name(name, table) or name
    return name
