"""Weights of Hugging Face's DETR and Deformable DETR (the library `transformers`) under our names.

The configs `detr/detr_r50_8xb2-150e_coco` and `transformers/deformable-detr*_r50_coco` describe the models that the
published ones fit: in the latter, convolutions before a group norm have a bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from omnidet.checkpoints.renaming import Table, join_attention, keep_rows, rename
from omnidet.errors import CheckpointError


def resnet_names(prefix: str, ours: str = 'backbone.') -> Table:
    """transformers' own ResNet below `prefix`, and timm's, whose names are ours already."""
    layer = prefix + r'encoder\.stages\.(\d)\.layers\.(\d+)\.'

    def within(part: str) -> str:
        return rf'{layer}layer\.(\d)\.{part}\.'

    def becomes(part: str):  # type: ignore[no-untyped-def]
        return lambda m: f'{ours}layer{int(m[1]) + 1}.{m[2]}.{part}{int(m[3]) + 1}.'

    def shortcut(index: int):  # type: ignore[no-untyped-def]
        return lambda m: f'{ours}layer{int(m[1]) + 1}.{m[2]}.downsample.{index}.'

    return ((prefix + r'embedder\.embedder\.convolution\.', f'{ours}conv1.'),
            (prefix + r'embedder\.embedder\.normalization\.', f'{ours}bn1.'),
            (within('convolution'), becomes('conv')), (within('normalization'), becomes('bn')),
            (layer + r'shortcut\.convolution\.', shortcut(0)), (layer + r'shortcut\.normalization\.', shortcut(1)),
            (prefix + r'(?:_backbone\.)?(conv1|bn1|layer\d)\.', rf'{ours}\1.'))


_LAYER = r'model\.(encoder|decoder)\.layers\.(\d+)\.'
_DEFORMABLE = '(sampling_offsets|attention_weights|value_proj|output_proj)'

TRANSFORMER: Table = (
    (_LAYER + rf'self_attn\.{_DEFORMABLE}\.', r'\1.layers.\2.self_attn.\3.'),
    (_LAYER + rf'encoder_attn\.{_DEFORMABLE}\.', r'\1.layers.\2.cross_attn.\3.'),
    (_LAYER + r'self_attn\.([qkv])_proj\.', r'\1.layers.\2.self_attn.attn.\3_proj.'),
    (_LAYER + r'encoder_attn\.([qkv])_proj\.', r'\1.layers.\2.cross_attn.attn.\3_proj.'),
    (_LAYER + r'self_attn\.(?:out|o)_proj\.', r'\1.layers.\2.self_attn.attn.out_proj.'),
    (_LAYER + r'encoder_attn\.(?:out|o)_proj\.', r'\1.layers.\2.cross_attn.attn.out_proj.'),
    (_LAYER + r'(?:mlp\.)?fc1\.', r'\1.layers.\2.ffn.layers.0.0.'),
    (_LAYER + r'(?:mlp\.)?fc2\.', r'\1.layers.\2.ffn.layers.1.'),
    (_LAYER + r'self_attn_layer_norm\.', r'\1.layers.\2.norms.0.'),
    (_LAYER + r'encoder_attn_layer_norm\.', r'\1.layers.\2.norms.1.'),
    (_LAYER + r'final_layer_norm\.', lambda m: f'{m[1]}.layers.{m[2]}.norms.{1 if m[1] == "encoder" else 2}.'),
    (r'model\.decoder\.layernorm\.', 'decoder.post_norm.'),
    (r'model\.query_position_embeddings\.', 'query_embedding.'),
)
"""The transformers of both models, in files of transformers 4 and 5, and in models of 5 that are not saved yet."""

BACKBONE = resnet_names(r'model\.backbone\.(?:conv_encoder\.)?model\.')

DETR: Table = (
    *BACKBONE, *TRANSFORMER,
    (r'model\.input_projection\.', 'neck.convs.0.conv.'),
    (r'class_labels_classifier\.', 'bbox_head.fc_cls.'),
    (r'bbox_predictor\.layers\.0\.', 'bbox_head.reg_ffn.layers.0.0.'),
    (r'bbox_predictor\.layers\.1\.', 'bbox_head.reg_ffn.layers.1.'),
    (r'bbox_predictor\.layers\.2\.', 'bbox_head.fc_reg.'),
)

DEFORMABLE_DETR: Table = (
    *BACKBONE, *TRANSFORMER,
    (r'model\.input_proj\.(\d)\.0\.', r'neck.convs.\1.conv.'),
    (r'model\.input_proj\.(\d)\.1\.', r'neck.convs.\1.gn.'),
    (r'model\.level_embed$', 'level_embed'),
    (r'model\.reference_points\.', 'reference_points_fc.'),
    (r'model\.enc_output\.', 'memory_trans_fc.'),
    (r'model\.enc_output_norm\.', 'memory_trans_norm.'),
    (r'model\.pos_trans\.', 'pos_trans_fc.'),
    (r'model\.pos_trans_norm\.', 'pos_trans_norm.'),
    (r'(?:model\.decoder\.)?class_embed\.(\d+)\.', r'bbox_head.cls_branches.\1.'),
    (r'(?:model\.decoder\.)?bbox_embed\.(\d+)\.layers\.(\d)\.',
     lambda m: f'bbox_head.reg_branches.{m[1]}.{2 * int(m[2])}.'),    # a ReLU lies between two layers
)


def convert_detr(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                 ) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of `DetrForObjectDetection` as our `DETR` names them.

    Args:
        state: the state dict of transformers' model; one with a mask head may be given, whose own weights are left.
        classes: the classes to keep, in the order that they should have; all where None. 'No object' stays the last.

    Returns:
        A state dict, and the names that have no place in it.

    Raises:
        CheckpointError: a weight is missing, or a class that is asked for.
    """
    out, unused = rename(_without_prefix(state), DETR)
    join_attention(out)
    _need(out, 'bbox_head.fc_cls.weight', 'class_labels_classifier.weight')
    if classes is not None:
        keep_rows(out, 'bbox_head.fc_cls', [*classes, len(out['bbox_head.fc_cls.weight']) - 1])
    return out, unused


def convert_deformable_detr(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                            ) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of `DeformableDetrForObjectDetection`, plain, refining or in two stages, as `DeformableDETR`'s.

    Arguments, results and errors are those of `convert_detr`.
    """
    out, unused = rename(_without_prefix(state), DEFORMABLE_DETR)
    join_attention(out)
    _need(out, 'bbox_head.cls_branches.0.weight', 'class_embed.0.weight')
    _split_neck(out)
    _share_branches(out)
    if classes is not None:
        _keep_classes(out, classes)
    return out, unused


def _without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Models with a mask head have their detector as `detr`."""
    return {k.removeprefix('detr.'): v for k, v in state.items()}


def _need(state: Mapping[str, Tensor], name: str, theirs: str) -> None:
    if name not in state:
        raise CheckpointError(f'the weights lack {theirs}; they are no whole detector')


def _split_neck(state: dict[str, Tensor]) -> None:
    """Levels that are made by a 3 x 3 convolution are our `extra_convs`, counted anew; in place."""
    kernels = {int(m[1]): value.shape[-1] for name, value in state.items()
               if (m := re.match(r'neck\.convs\.(\d)\.conv\.weight', name))}
    first = min((level for level, size in kernels.items() if size == 3), default=len(kernels))
    for name in [n for n in state if n.startswith('neck.convs.')]:
        level = int(name.split('.')[2])
        if level >= first:
            state[name.replace(f'convs.{level}.', f'extra_convs.{level - first}.')] = state.pop(name)


def _share_branches(state: dict[str, Tensor]) -> None:
    """A file holds layers once that all decoder layers share; here each has its names. In place."""
    layers = {int(n.split('.')[2]) for n in state if n.startswith('decoder.layers.')}
    for kind in ('cls_branches', 'reg_branches'):
        own = {n: v for n, v in state.items() if n.startswith(f'bbox_head.{kind}.')}
        if {n.split('.')[2] for n in own} == {'0'}:
            for i in layers - {0}:
                state |= {n.replace(f'{kind}.0.', f'{kind}.{i}.'): v for n, v in own.items()}


def _keep_classes(state: dict[str, Tensor], classes: Sequence[int]) -> None:
    """In place; the encoder of two stages tells objects from background by its class 0, which therefore stays."""
    branches = sorted(n.removesuffix('.weight') for n in state if re.match(r'bbox_head\.cls_branches\.\d+\.weight', n))
    of_encoder = f'bbox_head.cls_branches.{len(branches) - 1}' if 'memory_trans_fc.weight' in state else None
    for branch in branches:
        keep_rows(state, branch, [0, *classes[1:]] if branch == of_encoder else classes)
