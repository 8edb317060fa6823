"""A decoder whose queries look only where the masks are that they predict (arXiv:2112.01527, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.nn.initialize import initialize
from omnidet.nn.layers import build_norm
from omnidet.nn.transformer import FEED_FORWARD, LAYER_NORM, DecoderLayer, build_part, xavier_

Cfg = Mapping[str, Any]


class MaskedDecoderLayer(nn.Module):
    """Attention to the images, then self-attention of queries, then a feed-forward part, with a norm after each.

    Parameters: self_attn, cross_attn, ffn, norms; those of `DecoderLayer`, in another order.

    Args:
        self_attn_cfg, cross_attn_cfg: arguments of the attentions.
        ffn_cfg: arguments of `FFN`.
        norm_cfg: the kind of norm.
    """

    def __init__(self, self_attn_cfg: Cfg | None = None, cross_attn_cfg: Cfg | None = None,
                 ffn_cfg: Cfg = FEED_FORWARD, norm_cfg: Cfg = LAYER_NORM) -> None:
        super().__init__()
        parts = DecoderLayer(False, self_attn_cfg, cross_attn_cfg, ffn_cfg, norm_cfg)
        self.self_attn, self.cross_attn, self.ffn, self.norms = (
            parts.self_attn, parts.cross_attn, parts.ffn, parts.norms)

    def forward(self, query: Tensor, query_pos: Tensor, memory: Tensor, memory_pos: Tensor, blocked: Tensor) -> Tensor:
        """(B, Q, C) -> (B, Q, C).

        Args:
            query_pos: (B, Q, C), added to queries and keys.
            memory, memory_pos: (B, N, C), the images.
            blocked: (B, Q, N) bool, True where a query may not look.
        """
        x = self.norms[0](self.cross_attn(query, memory, query_pos=query_pos, memory_pos=memory_pos,
                                          attn_mask=blocked))
        x = self.norms[1](self.self_attn(x, query_pos=query_pos))
        return self.norms[2](self.ffn(x))


class Mask2FormerDecoder(nn.Module):
    """Decoder layers that look at the levels of a pyramid by turns. Parameters: layers, post_norm.

    Args:
        num_layers: how many.
        layer_cfg: arguments of `MaskedDecoderLayer`.
        post_norm_cfg: the kind of norm.
        return_intermediate: accepted as configs carry it; the queries after every layer are needed.
        init_cfg: how to initialise; matrices are drawn after Xavier by default.
    """

    def __init__(self, num_layers: int, layer_cfg: Cfg, post_norm_cfg: Cfg = LAYER_NORM,
                 return_intermediate: bool = True, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(build_part(MaskedDecoderLayer, layer_cfg) for _ in range(num_layers))
        self.embed_dims = self.layers[0].ffn.embed_dims
        self.post_norm = build_norm(post_norm_cfg, self.embed_dims)[1]
        xavier_(self)
        initialize(self, init_cfg)

    def forward(self, query: Tensor, query_pos: Tensor, levels: Sequence[tuple[Tensor, Tensor]],
                blocked: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
        """The queries before the first layer and after each one, normed: (B, Q, C) each.

        Args:
            query, query_pos: (B, Q, C).
            levels: tokens and their positions, (B, N_l, C) each.
            blocked: from normed queries and a level to (B, Q, N_l) bool, where they may not look.
        """
        out = [self.post_norm(query)]
        for i, layer in enumerate(self.layers):
            level = i % len(levels)
            memory, memory_pos = levels[level]
            query = layer(query, query_pos, memory, memory_pos, blocked(out[-1], level))
            out.append(self.post_norm(query))
        return out
