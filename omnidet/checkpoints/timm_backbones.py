"""Weights of timm's backbones under our names, and ours under timm's: ResNet, ConvNeXt, MobileNetV2, Swin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from omnidet.checkpoints.renaming import Table, inverted, rename
from omnidet.checkpoints.swin import INDEX, convert_swin, to_timm_swin
from omnidet.errors import CheckpointError

State = Mapping[str, Tensor]
Renamed = tuple[dict[str, Tensor], list[str]]

_TENSOR = r'(weight|bias|running_mean|running_var|num_batches_tracked)$'
RESNET: Table = (
    (r'(conv1|bn1)\.' + _TENSOR, r'\1.\2'),
    (r'(layer[1-4]\.\d+)\.(conv[123]|bn[123]|downsample\.[012])\.' + _TENSOR, r'\1.\2.\3'),
)
DEEP_RESNET: Table = ((r'bn1\.', 'stem.7.'), (r'conv1\.(\d)\.', r'stem.\1.'), RESNET[1])
"""With a stem of three convolutions: `resnet50d` there, `ResNetV1d` here."""

_BLOCK, _OUR_BLOCK = r'stages\.(\d)\.blocks\.(\d+)\.', r'stages.\1.\2.'
CONVNEXT: Table = (
    (r'stem\.(\d)\.', r'downsample_layers.0.\1.'),
    (r'stages\.(\d)\.downsample\.(\d)\.', r'downsample_layers.\1.\2.'),
    (_BLOCK + r'gamma$', _OUR_BLOCK + 'gamma'),
    (_BLOCK + r'conv_dw\.', _OUR_BLOCK + 'depthwise_conv.'),
    (_BLOCK + r'norm\.', _OUR_BLOCK + 'norm.'),
    (_BLOCK + r'mlp\.fc([12])\.', _OUR_BLOCK + r'pointwise_conv\3.'),
    (r'head\.norm\.', 'norm3.'),
)


def _inverted_residuals(stage: int) -> Table:
    """Three convolutions with norms; the first stage's blocks do not expand."""
    convs = {0: {'conv_dw': 'depthwise_conv.conv', 'bn1': 'depthwise_conv.bn', 'conv_pw': 'linear_conv.conv',
                 'bn2': 'linear_conv.bn'}}.get(stage, {
                     'conv_pw': 'expand_conv.conv', 'bn1': 'expand_conv.bn', 'conv_dw': 'depthwise_conv.conv',
                     'bn2': 'depthwise_conv.bn', 'conv_pwl': 'linear_conv.conv', 'bn3': 'linear_conv.bn'})
    return tuple((rf'blocks\.{stage}\.(\d)\.{theirs}\.', rf'layer{stage + 1}.\1.{ours}.')
                 for theirs, ours in convs.items())


MOBILENET_V2: Table = (
    (r'conv_stem\.', 'conv1.conv.'), (r'bn1\.', 'conv1.bn.'),
    *(row for stage in range(7) for row in _inverted_residuals(stage)),
    (r'conv_head\.', 'conv2.conv.'), (r'bn2\.', 'conv2.bn.'),
)


class Backbone(NamedTuple):
    """A kind of backbone.

    Attributes:
        model: what it is called.
        theirs, ours: a name that only its weights have, there and here.
        table: their names and ours; None for Swin, whose weights change their order too.
    """

    model: str
    theirs: str
    ours: str
    table: Table | None


BACKBONES = (
    Backbone('ResNet with a deep stem', 'conv1.0.weight', 'stem.0.weight', DEEP_RESNET),
    Backbone('ResNet', 'layer1.0.conv1.weight', 'layer1.0.conv1.weight', RESNET),
    Backbone('ConvNeXt', 'stages.0.blocks.0.conv_dw.weight', 'stages.0.0.depthwise_conv.weight', CONVNEXT),
    Backbone('MobileNetV2', 'conv_stem.weight', 'layer1.0.depthwise_conv.conv.weight', MOBILENET_V2),
    Backbone('Swin', 'layers.0.blocks.0.attn.qkv.weight', 'stages.0.blocks.0.attn.w_msa.qkv.weight', None),
)
"""The first that has the name counts."""


def from_timm(state: State) -> tuple[Backbone, dict[str, Tensor], list[str]]:
    """A timm backbone's weights as ours are named: the kind, the weights, and the names without a place (classifiers).

    Raises:
        CheckpointError: they are of no known kind.
    """
    kind = next((b for b in BACKBONES if b.theirs in state), None)
    if kind is None:
        raise CheckpointError(f'these weights are of no backbone that is converted from timm: their names are like '
                              f'{_examples(state)}. Known are {_known()}')
    if kind.table is not None:
        return kind, *rename(state, kind.table)
    unused = [k for k in state if k.startswith('head.')]
    out = convert_swin({k: v for k, v in state.items() if k not in unused}, {})
    out |= {k.replace('norm.', 'norm3.', 1): v for k, v in state.items() if k.startswith('norm.')}
    return kind, out, unused


def to_timm(state: State) -> tuple[Backbone, dict[str, Tensor], list[str]]:
    """Our backbone's weights, alone or in a detector, as timm's model without a classifier has them; see `from_timm`.

    The norms behind the first three stages of Swin and ConvNeXt, which only detectors have, are among the names without
    a place.
    """
    backbone = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')} or dict(state)
    kind = next((b for b in BACKBONES if b.ours in backbone), None)
    if kind is None:
        raise CheckpointError(f'these weights have no backbone that timm has too: their names are like '
                              f'{_examples(backbone)}. Known are {_known()}')
    backbone = {k: v for k, v in backbone.items() if not k.endswith(INDEX)}    # timm makes the table anew
    if kind.table is not None:
        return kind, *rename(backbone, inverted(kind.table))
    unused = [k for k in backbone if re.match(r'norm[0-2]\.', k)]
    return kind, to_timm_swin({k: v for k, v in backbone.items() if k not in unused}), unused


def _examples(state: State) -> str:
    return ', '.join(map(repr, list(state)[:3]))


def _known() -> str:
    return ', '.join(b.model for b in BACKBONES)
