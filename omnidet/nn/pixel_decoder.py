"""From a backbone's maps to the features that masks are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.conv_module import ConvModule
from omnidet.nn.deformable_transformer import encode_pyramid, flatten_pyramid
from omnidet.nn.initialize import initialize
from omnidet.nn.layers import build_conv
from omnidet.nn.transformer import Encoder, build_part
from omnidet.registry import PLUGINS, POSITIONAL_ENCODINGS

Cfg = Mapping[str, Any]

ENCODER: Cfg = {'num_layers': 6, 'layer_cfg': {
    'self_attn_cfg': {'embed_dims': 256, 'num_heads': 8, 'num_levels': 3, 'num_points': 4, 'dropout': 0.0},
    'ffn_cfg': {'embed_dims': 256, 'feedforward_channels': 1024, 'num_fcs': 2, 'ffn_drop': 0.0}}}


@PLUGINS.register
class MSDeformAttnPixelDecoder(nn.Module):
    """Deformable attention over the coarse maps, and a pyramid to the finest one (arXiv:2112.01527, section 3.2.1).

    The coarsest `num_levels` maps (of the attention) become tokens that attend to each other; the finer ones are added
    as in FPN. Padding of a batch takes part, as published weights know it.

    Parameters: input_convs, encoder, level_encoding, lateral_convs, output_convs, mask_feature.

    Args:
        in_channels: of the backbone's maps, finest first.
        strides: of those maps; accepted as configs carry it, the maps' sizes say them.
        feat_channels: C.
        out_channels: of the mask features.
        num_outs: how many maps go to the transformer's decoder.
        norm_cfg: of convolutions.
        act_cfg: of the convolutions after sums.
        encoder: arguments of `Encoder`.
        positional_encoding: of the maps' cells.
        init_cfg: how to initialise; after Xavier by default.
    """

    def __init__(self, in_channels: Sequence[int] = (256, 512, 1024, 2048), strides: Sequence[int] = (4, 8, 16, 32),
                 feat_channels: int = 256, out_channels: int = 256, num_outs: int = 3,
                 norm_cfg: Cfg | None = {'type': 'GN', 'num_groups': 32}, act_cfg: Cfg | None = {'type': 'ReLU'},
                 encoder: Cfg = ENCODER, positional_encoding: Cfg = {'num_feats': 128, 'normalize': True},
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        C, num_levels = feat_channels, encoder['layer_cfg']['self_attn_cfg'].get('num_levels', 4)
        if num_levels > len(in_channels):
            raise ConfigError(f'MSDeformAttnPixelDecoder: the encoder attends to num_levels={num_levels} maps; there '
                              f'are {len(in_channels)} in in_channels={list(in_channels)}')
        self.num_outs, self.num_levels = num_outs, num_levels
        coarse, fine = in_channels[-num_levels:], in_channels[:-num_levels]
        self.input_convs = nn.ModuleList(
            ConvModule(n, C, 1, bias=True, norm_cfg=norm_cfg, act_cfg=None) for n in reversed(coarse))
        self.encoder = build_part(Encoder, encoder, deformable=True)
        self.positional_encoding = POSITIONAL_ENCODINGS.build({'type': 'SinePositionalEncoding', **positional_encoding})
        self.level_encoding = nn.Embedding(num_levels, C)
        self.lateral_convs = nn.ModuleList(
            ConvModule(n, C, 1, norm_cfg=norm_cfg, act_cfg=None) for n in reversed(fine))
        self.output_convs = nn.ModuleList(
            ConvModule(C, C, 3, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg) for _ in fine)
        self.mask_feature = build_conv(None, C, out_channels, 1)
        initialize(self.input_convs, {'type': 'Xavier', 'layer': 'Conv2d', 'distribution': 'uniform'})
        for part in (self.lateral_convs, self.output_convs, self.mask_feature):
            initialize(part, {'type': 'Caffe2Xavier', 'layer': 'Conv2d'})
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The features of masks, and the maps for a decoder.

        Args:
            feats: the backbone's maps (B, C_l, H_l, W_l), finest first.

        Returns:
            (B, out_channels, H_0, W_0), and `num_outs` maps (B, C, H, W), coarsest first.
        """
        coarse = [conv(x) for conv, x in zip(self.input_convs, reversed(feats), strict=False)]
        shape = (feats[0].shape[-2], feats[0].shape[-1])
        pyramid = flatten_pyramid(coarse, self.positional_encoding, self.level_encoding.weight, shape, None)
        memory = encode_pyramid(self.encoder, pyramid)
        parts = memory.split([h * w for h, w in pyramid.shapes], 1)
        outs = [part.mT.unflatten(2, hw) for part, hw in zip(parts, pyramid.shapes, strict=True)]
        for lateral, output, x in zip(self.lateral_convs, self.output_convs, reversed(feats[:-self.num_levels]),
                                      strict=True):
            upper = F.interpolate(outs[-1], size=x.shape[-2:], mode='bilinear', align_corners=False)
            outs.append(output(lateral(x) + upper))
        return self.mask_feature(outs[-1]), outs[:self.num_outs]
