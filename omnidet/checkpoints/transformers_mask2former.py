"""Weights of Hugging Face's Mask2Former (the library `transformers`), with Swin or ResNet, under our names.

The configs `mask2former/mask2former_*` describe the models that the published ones fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from omnidet.checkpoints.renaming import Table, join_attention, keep_rows, rename
from omnidet.checkpoints.swin import merging_order
from omnidet.checkpoints.transformers_detr import resnet_names
from omnidet.errors import CheckpointError

_ENCODER = r'model\.pixel_level_module\.encoder\.(?:swin\.)?'
_BLOCK = _ENCODER + r'encoder\.layers\.(\d)\.blocks\.(\d+)\.'
_ATTENTION = _BLOCK + r'attention\.(?:self\.)?'

SWIN: Table = (
    (_ENCODER + r'embeddings\.patch_embeddings\.projection\.', 'backbone.patch_embed.projection.'),
    (_ENCODER + r'embeddings\.norm\.', 'backbone.patch_embed.norm.'),
    (_ATTENTION + r'([qkv])_proj\.', r'backbone.stages.\1.blocks.\2.attn.w_msa.\3_proj.'),
    (_ATTENTION + r'(q)uery\.|' + _ATTENTION + r'(k)ey\.|' + _ATTENTION + r'(v)alue\.',
     lambda m: 'backbone.stages.{}.blocks.{}.attn.w_msa.{}_proj.'.format(*(g for g in m.groups() if g))),
    (_ATTENTION + r'(?:relative_position_bias\.)?(relative_position_(?:bias_table|index))$',
     r'backbone.stages.\1.blocks.\2.attn.w_msa.\3'),
    (_BLOCK + r'attention\.(?:o_proj|output\.dense)\.', r'backbone.stages.\1.blocks.\2.attn.w_msa.proj.'),
    (_BLOCK + r'layernorm_before\.', r'backbone.stages.\1.blocks.\2.norm1.'),
    (_BLOCK + r'layernorm_after\.', r'backbone.stages.\1.blocks.\2.norm2.'),
    (_BLOCK + r'(?:mlp\.fc1|intermediate\.dense)\.', r'backbone.stages.\1.blocks.\2.ffn.layers.0.0.'),
    (_BLOCK + r'(?:mlp\.fc2|output\.dense)\.', r'backbone.stages.\1.blocks.\2.ffn.layers.1.'),
    (_ENCODER + r'encoder\.layers\.(\d)\.downsample\.', r'backbone.stages.\1.downsample.'),
    (_ENCODER + r'hidden_states_norms\.stage(\d)\.', lambda m: f'backbone.norm{int(m[1]) - 1}.'),
)
"""Swin's, in files of transformers 4 and 5 and in models of 5."""

_PIXELS, _OUR_PIXELS = r'model\.pixel_level_module\.decoder\.', 'panoptic_head.pixel_decoder.'
_PIXEL_LAYER, _OUR_PIXEL_LAYER = _PIXELS + r'encoder\.layers\.(\d+)\.', _OUR_PIXELS + r'encoder.layers.\1.'
_QUERIES = r'model\.transformer_module\.'
_LAYER, _OUR_LAYER = _QUERIES + r'decoder\.layers\.(\d+)\.', r'panoptic_head.transformer_decoder.layers.\1.'

MASK2FORMER: Table = (
    *SWIN, *resnet_names(r'model\.pixel_level_module\.encoder\.'),
    (_PIXELS + r'input_projections\.(\d)\.0\.', _OUR_PIXELS + r'input_convs.\1.conv.'),
    (_PIXELS + r'input_projections\.(\d)\.1\.', _OUR_PIXELS + r'input_convs.\1.gn.'),
    (_PIXELS + r'level_embed$', _OUR_PIXELS + 'level_encoding.weight'),
    (_PIXEL_LAYER + r'self_attn\.', _OUR_PIXEL_LAYER + 'self_attn.'),
    (_PIXEL_LAYER + r'(?:mlp\.)?fc1\.', _OUR_PIXEL_LAYER + 'ffn.layers.0.0.'),
    (_PIXEL_LAYER + r'(?:mlp\.)?fc2\.', _OUR_PIXEL_LAYER + 'ffn.layers.1.'),
    (_PIXEL_LAYER + r'self_attn_layer_norm\.', _OUR_PIXEL_LAYER + 'norms.0.'),
    (_PIXEL_LAYER + r'final_layer_norm\.', _OUR_PIXEL_LAYER + 'norms.1.'),
    (_PIXELS + r'adapter_1\.0\.', _OUR_PIXELS + 'lateral_convs.0.conv.'),
    (_PIXELS + r'adapter_1\.1\.', _OUR_PIXELS + 'lateral_convs.0.gn.'),
    (_PIXELS + r'layer_1\.0\.', _OUR_PIXELS + 'output_convs.0.conv.'),
    (_PIXELS + r'layer_1\.1\.', _OUR_PIXELS + 'output_convs.0.gn.'),
    (_PIXELS + r'mask_projection\.', _OUR_PIXELS + 'mask_feature.'),
    (_LAYER + r'self_attn\.([qkv])_proj\.', _OUR_LAYER + r'self_attn.attn.\2_proj.'),
    (_LAYER + r'self_attn\.(?:out|o)_proj\.', _OUR_LAYER + 'self_attn.attn.out_proj.'),
    (_LAYER + r'cross_attn\.', _OUR_LAYER + 'cross_attn.attn.'),
    (_LAYER + r'(?:mlp\.)?fc1\.', _OUR_LAYER + 'ffn.layers.0.0.'),
    (_LAYER + r'(?:mlp\.)?fc2\.', _OUR_LAYER + 'ffn.layers.1.'),
    (_LAYER + r'cross_attn_layer_norm\.', _OUR_LAYER + 'norms.0.'),    # attention to pixels comes first here
    (_LAYER + r'self_attn_layer_norm\.', _OUR_LAYER + 'norms.1.'),
    (_LAYER + r'final_layer_norm\.', _OUR_LAYER + 'norms.2.'),
    (_QUERIES + r'decoder\.layernorm\.', 'panoptic_head.transformer_decoder.post_norm.'),
    (_QUERIES + r'decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.',
     lambda m: f'panoptic_head.mask_embed.{2 * int(m[1])}.'),    # a ReLU lies between two layers
    (_QUERIES + r'queries_embedder\.', 'panoptic_head.query_embed.'),
    (_QUERIES + r'queries_features\.', 'panoptic_head.query_feat.'),
    (_QUERIES + r'level_embed\.', 'panoptic_head.level_embed.'),
    (r'class_predictor\.', 'panoptic_head.cls_embed.'),
)


def convert_mask2former(state: Mapping[str, Tensor], classes: Sequence[int] | None = None
                        ) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of `Mask2FormerForUniversalSegmentation` as our `Mask2Former` names them.

    Args:
        state: the state dict of transformers' model.
        classes: the classes to keep, in the order that they should have; all where None. 'Nothing' stays the last.

    Returns:
        A state dict, and the names that have no place in it: the class weights of the loss, and Swin's last norm,
        which a model with a norm for every level does not use.

    Raises:
        CheckpointError: a weight is missing, or a class that is asked for.
    """
    out, unused = rename(state, MASK2FORMER)
    join_attention(out)
    for name in list(out):
        if '.w_msa.in_proj_' in name:
            out[name.replace('.in_proj_', '.qkv.')] = out.pop(name)
        elif '.downsample.reduction.' in name or '.downsample.norm.' in name:
            out[name] = merging_order(out[name])
    if 'panoptic_head.cls_embed.weight' not in out:
        raise CheckpointError('the weights lack class_predictor.weight; they are no whole detector')
    if classes is not None:
        keep_rows(out, 'panoptic_head.cls_embed', [*classes, len(out['panoptic_head.cls_embed.weight']) - 1])
    return out, unused
