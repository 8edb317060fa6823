"""Layers of encoders and decoders, for plain and for deformable attention, and the plain encoder and decoder.

Letters: B images, N tokens of the images, Q queries, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnidet.nn.attention import MultiheadAttention
from omnidet.nn.deform_attention import MultiScaleDeformableAttention
from omnidet.nn.ffn import FFN
from omnidet.nn.initialize import initialize
from omnidet.nn.layers import build_norm
from omnidet.registry import check_arguments

Cfg = Mapping[str, Any]
ATTENTION: Cfg = {'embed_dims': 256, 'num_heads': 8, 'dropout': 0.0}
DEFORMABLE: Cfg = {'embed_dims': 256}
FEED_FORWARD: Cfg = {'embed_dims': 256, 'feedforward_channels': 1024, 'num_fcs': 2, 'ffn_drop': 0.0,
                     'act_cfg': {'type': 'ReLU', 'inplace': True}}
LAYER_NORM: Cfg = {'type': 'LN'}


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward part, with a norm after each (arXiv:1706.03762, figure 1).

    Parameters: self_attn, ffn, norms.

    Args:
        deformable: which attention.
        self_attn_cfg: arguments of the attention.
        ffn_cfg: arguments of `FFN`.
        norm_cfg: the kind of norm.
    """

    def __init__(self, deformable: bool, self_attn_cfg: Cfg | None = None, ffn_cfg: Cfg = FEED_FORWARD,
                 norm_cfg: Cfg = LAYER_NORM) -> None:
        super().__init__()
        self.self_attn = build_attention(deformable, self_attn_cfg)
        self.ffn = build_part(FFN, ffn_cfg)
        self.norms = _norms(norm_cfg, ffn_cfg, 2)

    def forward(self, x: Tensor, pos: Tensor | None, padding: Tensor | None, **where: Any) -> Tensor:
        """(B, N, C) -> (B, N, C).

        Args:
            pos: (B, N, C), added to queries and keys.
            padding: (B, N) bool, True for a token that is padding.
            where: reference_points and shapes, of deformable attention.
        """
        x = self.norms[0](self.self_attn(x, query_pos=pos, key_padding_mask=padding, **where))
        return self.norms[1](self.ffn(x))


class DecoderLayer(nn.Module):
    """Self-attention of queries, attention to the images, and a feed-forward part, with a norm after each.

    Parameters: self_attn, cross_attn, ffn, norms.

    Args:
        deformable: which attention to the images.
        self_attn_cfg, cross_attn_cfg: arguments of the attentions.
        ffn_cfg: arguments of `FFN`.
        norm_cfg: the kind of norm.
    """

    def __init__(self, deformable: bool, self_attn_cfg: Cfg | None = None, cross_attn_cfg: Cfg | None = None,
                 ffn_cfg: Cfg = FEED_FORWARD, norm_cfg: Cfg = LAYER_NORM) -> None:
        super().__init__()
        self.self_attn = build_attention(False, self_attn_cfg)
        self.cross_attn = build_attention(deformable, cross_attn_cfg)
        self.ffn = build_part(FFN, ffn_cfg)
        self.norms = _norms(norm_cfg, ffn_cfg, 3)

    def forward(self, query: Tensor, query_pos: Tensor | None, memory: Tensor, padding: Tensor | None,
                self_attn_mask: Tensor | None = None, **where: Any) -> Tensor:
        """(B, Q, C) -> (B, Q, C).

        Args:
            query_pos: (B, Q, C), added to queries and keys.
            memory: (B, N, C), the images.
            padding: (B, N) bool, True for a token that is padding.
            self_attn_mask: (Q, Q) bool, True where a query may not look at another.
            where: memory_pos of plain attention; reference_points and shapes of deformable attention.
        """
        x = self.norms[0](self.self_attn(query, query_pos=query_pos, attn_mask=self_attn_mask))
        x = self.norms[1](self.cross_attn(x, memory, query_pos=query_pos, key_padding_mask=padding, **where))
        return self.norms[2](self.ffn(x))


class Encoder(nn.Module):
    """Encoder layers one after another (arXiv:2005.12872 or arXiv:2010.04159). Parameters: layers.

    Args:
        num_layers: how many.
        layer_cfg: arguments of `EncoderLayer`.
        num_cp: of how many of the first layers activations are computed again in the backward pass, to save memory.
        init_cfg: how to initialise; matrices are drawn after Xavier by default.
        deformable: which attention.
    """

    def __init__(self, num_layers: int, layer_cfg: Cfg, num_cp: int = -1,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, deformable: bool = False) -> None:
        super().__init__()
        self.num_cp = num_cp
        self.layers = nn.ModuleList(
            build_part(EncoderLayer, layer_cfg, deformable=deformable) for _ in range(num_layers))
        self.embed_dims = self.layers[0].ffn.embed_dims
        xavier_(self)
        initialize(self, init_cfg)

    def forward(self, x: Tensor, pos: Tensor | None, padding: Tensor | None, **where: Any) -> Tensor:
        """(B, N, C) -> (B, N, C); the arguments are those of `EncoderLayer`."""
        for i, layer in enumerate(self.layers):
            if i < self.num_cp and torch.is_grad_enabled():
                x = checkpoint(layer, x, pos, padding, use_reentrant=False, **where)
            else:
                x = layer(x, pos, padding, **where)
        return x


class DetrDecoder(nn.Module):
    """Decoder layers one after another; one norm for the queries after each (arXiv:2005.12872).

    Parameters: layers, post_norm.

    Args:
        num_layers: how many.
        layer_cfg: arguments of `DecoderLayer`.
        post_norm_cfg: the kind of norm.
        return_intermediate: give the queries after each layer, not after the last alone.
        init_cfg: how to initialise; matrices are drawn after Xavier by default.
    """

    def __init__(self, num_layers: int, layer_cfg: Cfg, post_norm_cfg: Cfg = LAYER_NORM,
                 return_intermediate: bool = True, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.return_intermediate = return_intermediate
        self.layers = nn.ModuleList(build_part(DecoderLayer, layer_cfg, deformable=False) for _ in range(num_layers))
        self.embed_dims = self.layers[0].ffn.embed_dims
        self.post_norm = build_norm(post_norm_cfg, self.embed_dims)[1]
        xavier_(self)
        initialize(self, init_cfg)

    def forward(self, query: Tensor, query_pos: Tensor, memory: Tensor, memory_pos: Tensor,
                padding: Tensor | None) -> list[Tensor]:
        """(B, Q, C), (B, Q, C), (B, N, C), (B, N, C), (B, N) -> (B, Q, C) after each layer."""
        out = []
        for layer in self.layers:
            query = layer(query, query_pos, memory, padding, memory_pos=memory_pos)
            out.append(self.post_norm(query))
        return out if self.return_intermediate else out[-1:]


def build_attention(deformable: bool, cfg: Cfg | None) -> nn.Module:
    """`MultiScaleDeformableAttention` or `MultiheadAttention`, with the arguments that `cfg` has."""
    if deformable:
        return build_part(MultiScaleDeformableAttention, DEFORMABLE if cfg is None else cfg)
    return build_part(MultiheadAttention, ATTENTION if cfg is None else cfg)


def xavier_(module: nn.Module) -> None:
    """Draw every matrix after Xavier (uniform), as DETR does; deformable attention keeps its own beginning."""
    for p in module.parameters():
        if p.ndim > 1:
            nn.init.xavier_uniform_(p)
    for m in module.modules():
        if isinstance(m, MultiScaleDeformableAttention):
            m.reset_parameters()


def build_part(cls: type[nn.Module], cfg: Cfg, **more: Any) -> nn.Module:
    """`cls` with the arguments that `cfg` has, which are held against its signature, and `more`."""
    kwargs = {**{k: v for k, v in cfg.items() if k != 'type'}, **more}
    check_arguments(cls, kwargs)
    return cls(**kwargs)


def _norms(norm_cfg: Cfg, ffn_cfg: Cfg, count: int) -> nn.ModuleList:
    return nn.ModuleList(build_norm(norm_cfg, ffn_cfg.get('embed_dims', 256))[1] for _ in range(count))
