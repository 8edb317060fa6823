"""Multi-head attention, with the parameter names of MMDetection's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.initialize import initialize

Cfg = Mapping[str, Any]


class PackedAttention(nn.Module):
    """Scaled dot-product attention of several heads (arXiv:1706.03762, section 3.2).

    Parameters: in_proj_weight, in_proj_bias, out_proj; those of query, key and value lie one after another in
    `in_proj`, as in `torch.nn.MultiheadAttention`.

    Args:
        embed_dims: C, of queries, keys and values.
        num_heads: M; it divides C.
        dropout: the probability that a weight is dropped.
        bias: whether projections have a bias.
    """

    def __init__(self, embed_dims: int, num_heads: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ConfigError(f'attention: num_heads={num_heads} does not divide embed_dims={embed_dims}')
        self.embed_dims, self.num_heads, self.dropout = embed_dims, num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dims, embed_dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dims)) if bias else None
        self.out_proj = nn.Linear(embed_dims, embed_dims, bias=bias)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, Q, C), (B, N, C), (B, N, C) -> (B, Q, C).

        Args:
            allowed: bool of a shape that broadcasts to (B, M, Q, N), True where a query may look at a key.
        """
        C = self.embed_dims
        if query is key:
            q, k = self._project(query, 0, 2).split(C, -1)
        else:
            q, k = self._project(query, 0, 1), self._project(key, 1, 2)
        v = self._project(value, 2, 3)
        out = F.scaled_dot_product_attention(self._heads(q), self._heads(k), self._heads(v), attn_mask=allowed,
                                             dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor, start: int, stop: int) -> Tensor:
        rows = slice(start * self.embed_dims, stop * self.embed_dims)
        return F.linear(x, self.in_proj_weight[rows], None if self.in_proj_bias is None else self.in_proj_bias[rows])

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)    # (B, M, N, C / M)


class MultiheadAttention(nn.Module):
    """Attention with positions added to queries and keys, and the query added to what it gives.

    Parameters: attn.

    Args:
        embed_dims: C.
        num_heads: M.
        attn_drop: the probability that an attention weight is dropped.
        proj_drop: the probability that an output is dropped.
        dropout_layer: a further dropout of the output, `dict(type='Dropout', drop_prob=...)`.
        init_cfg: how to initialise; see `initialize`.
        batch_first: must be True: tensors are (B, N, C).
        bias: whether projections have a bias.
        dropout: an older spelling: `attn_drop` and the `drop_prob` of `dropout_layer` at once.
    """

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, attn_drop: float = 0.0, proj_drop: float = 0.0,
                 dropout_layer: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 batch_first: bool = True, bias: bool = True, dropout: float | None = None) -> None:
        super().__init__()
        if not batch_first:
            raise ConfigError('MultiheadAttention: batch_first is False; only tensors with images first exist here')
        layer_drop = 0.0 if dropout_layer is None else dropout_layer.get('drop_prob', 0.5)
        if dropout_layer is not None and dropout_layer.get('type', 'Dropout') != 'Dropout':
            raise ConfigError(f'MultiheadAttention: dropout_layer has the type {dropout_layer["type"]!r}; '
                              "allowed is 'Dropout'")
        if dropout is not None:
            attn_drop = layer_drop = dropout
        self.attn = PackedAttention(embed_dims, num_heads, attn_drop, bias)
        self.proj_drop = nn.Dropout(proj_drop)
        self.dropout_layer = nn.Dropout(layer_drop)
        initialize(self, init_cfg)

    def forward(self, query: Tensor, memory: Tensor | None = None, *, query_pos: Tensor | None = None,
                memory_pos: Tensor | None = None, key_padding_mask: Tensor | None = None,
                attn_mask: Tensor | None = None) -> Tensor:
        """query + attention of query to memory.

        Args:
            query: (B, Q, C).
            memory: (B, N, C), the keys and values; the queries themselves where None.
            query_pos: (B, Q, C) or (Q, C), added to queries (and keys, where they are the queries).
            memory_pos: (B, N, C), added to keys.
            key_padding_mask: (B, N) bool, True for a key that is padding.
            attn_mask: (Q, N), (B, Q, N) or (B, M, Q, N) bool, True where a query may not look.

        Returns:
            (B, Q, C).
        """
        q = query if query_pos is None else query + query_pos
        if memory is None:
            k, v = q, query
        else:
            k, v = memory if memory_pos is None else memory + memory_pos, memory
        out = self.attn(q, k, v, _allowed(key_padding_mask, attn_mask))
        return query + self.dropout_layer(self.proj_drop(out))


def _allowed(key_padding_mask: Tensor | None, attn_mask: Tensor | None) -> Tensor | None:
    """(B, M, Q, N) bool with ones for dimensions that do not matter, True where a query may look; None for all."""
    blocked = None
    if attn_mask is not None:
        blocked = attn_mask.unsqueeze(1) if attn_mask.ndim == 3 else attn_mask
        blocked = blocked[None, None] if blocked.ndim == 2 else blocked
    if key_padding_mask is not None:
        padding = key_padding_mask[:, None, None]
        blocked = padding if blocked is None else blocked | padding
    return None if blocked is None else ~blocked
