"""Write heads.md: every grid head as a row of choices, and every keypoint head, as the zoo's configs build them.

    python docs/heads.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from omnidet import load_config
from omnidet.models.dense_heads.grid.driver import DenseHead
from omnidet.models.dense_heads.keypoint.driver import KeypointHead
from omnidet.registry import DENSE_HEADS

PAGE = Path(__file__).with_name('heads.md')
EXAMPLES = ('retinanet/retinanet_r50_fpn_1x_coco', 'rpn/rpn_r50_fpn_1x_coco', 'pascal_voc/ssd300_voc0712',
            'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco', 'torchvision/fcos_r50_fpn_coco',
            'atss/atss_r50_fpn_1x_coco', 'gfl/gfl_r50_fpn_1x_coco',
            'tood/tood_r50_fpn_1x_coco', 'yolox/yolox_s_8xb8-300e_coco', 'rtmdet/rtmdet_l_8xb32-300e_coco',
            'centernet/centernet-update_r50-caffe_fpn_ms-1x_coco', 'rtmdet/rtmdet-ins_l_8xb32-300e_coco',
            'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance')
"""One config for each head."""
SAME_ROW = {'RTMDetHead': 'RTMDetSepBNHead', 'RTMDetInsHead': 'RTMDetInsSepBNHead'}
"""Heads that differ in their layers alone."""

KEYPOINT_EXAMPLES = ('centernet/centernet_r18_8xb16-crop512-140e_coco',
                     'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco',
                     'centripetalnet/centripetalnet_hourglass104_16xb6-crop511-210e-mstest_coco')
"""One config for each keypoint head."""

INTRODUCTION = '''# Grid heads, row by row

A grid head predicts at every cell of a pyramid. It is a row of choices, and `omnidet/models/dense_heads/grid/driver.py`
is the one walk that all of them take. This page is written by `python docs/heads.py` from the heads that the zoo's
configs build, and a test holds it against them. A head's own page of code says which layers it has and how it is
configured; a choice may be another in another config, as `bbox_head` and `train_cfg` name it.
'''
KEYPOINT_INTRODUCTION = '''
## Keypoint heads

These find objects as peaks of maps; `omnidet/models/dense_heads/keypoint/driver.py` is their walk.
'''


def built(config: str) -> Any:
    """The dense head of a zoo config, without memory for its parameters."""
    model = load_config(config).model
    where = 'rpn_head' if 'rpn_head' in model else 'bbox_head'
    phase = {k: model.get(k) for k in ('train_cfg', 'test_cfg')}
    if where == 'rpn_head':
        phase = {k: v.get('rpn') for k, v in phase.items()}
    with torch.device('meta'):
        return DENSE_HEADS.build(model[where], **phase)


COLUMNS = ('head', 'priors', 'coder', 'assigner', 'sampler', 'losses', 'what they compare', 'example')


def row(config: str) -> tuple[str, ...]:
    """The cells of a head's row, in the order of `COLUMNS`."""
    head = built(config)
    counts = head.prior_generator.num_base_priors
    many = f'{min(counts)} to {max(counts)}' if len(set(counts)) > 1 else str(counts[0])
    walk = type(head).losses if type(head).losses is not DenseHead.losses else type(head).loss_of
    return (f'`{kind(head)}`', f'`{kind(head.prior_generator)}`, {many} a cell', f'`{kind(head.coder)}`',
            assigner(head), sampler(head), losses(head) or 'its own', first_line(walk).rstrip('.'), f'`{config}`')


KEYPOINT_COLUMNS = ('head', 'an object is', 'losses', 'what they compare', 'example')


def keypoint_row(config: str) -> tuple[str, ...]:
    """The cells of a keypoint head's row, in the order of `KEYPOINT_COLUMNS`."""
    head = built(config)
    what = first_line(type(head)).partition('an object is ')[2].partition(' (arXiv')[0]
    return f'`{kind(head)}`', what, losses(head), first_line(type(head).losses).rstrip('.'), f'`{config}`'


def losses(head: Any) -> str:
    """The head's losses by name."""
    return ', '.join(f'{name} `{kind(child)}`' for name, child in head.named_children() if 'loss' in name)


def assigner(head: Any) -> str:
    """Which object a prior answers for, and whether the predictions have a say in it."""
    if not hasattr(head, 'assigner'):
        return 'its own'
    if hasattr(head, 'set_progress'):
        head.set_progress(10 ** 6, 10 ** 6)
    text = f'`{kind(head.assigner)}`' + (', by predictions' if head.assigner.needs_predictions else '')
    return f'{text}; first `{kind(head.initial_assigner)}`' if hasattr(head, 'initial_assigner') else text


def sampler(head: Any) -> str:
    """How many priors the loss sees."""
    if getattr(head, 'sampler', None) is None or head.sampler.num is None:
        return 'all'
    return f'`{kind(head.sampler)}`, {head.sampler.num} an image'


def kind(thing: Any) -> str:
    return type(thing).__name__


def first_line(thing: Any) -> str:
    """The first line of a docstring of its own."""
    return (inspect.cleandoc(thing.__doc__ or '')).partition('\n')[0]


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Rows under their columns, in Markdown."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (columns, ('---',) * len(columns), *rows))


def page() -> str:
    """The whole page."""
    also = '; '.join(f'`{name}` has the row of `{other}`' for name, other in SAME_ROW.items())
    return (f'{INTRODUCTION}\n{table(COLUMNS, map(row, EXAMPLES))}\n\n{also}.\n'
            f'{KEYPOINT_INTRODUCTION}\n{table(KEYPOINT_COLUMNS, map(keypoint_row, KEYPOINT_EXAMPLES))}\n')


def heads(driver: type = DenseHead) -> set[str]:
    """The names of all registered heads of the family that `driver` walks."""
    found = {name: DENSE_HEADS.get(name) for name in DENSE_HEADS.names()}
    return {name for name, cls in found.items() if isinstance(cls, type) and issubclass(cls, driver)}


def keypoint_heads() -> set[str]:
    """The names of all registered keypoint heads."""
    return heads(KeypointHead)


def is_ours(name: str) -> bool:
    """Whether a head is the package's, not a project's own."""
    return DENSE_HEADS.get(name).__module__.startswith('omnidet.')


if __name__ == '__main__':
    torch.set_num_threads(1)
    PAGE.write_text(page())
