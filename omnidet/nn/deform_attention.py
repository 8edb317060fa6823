"""Multi-scale deformable attention, with the parameter names of MMDetection's checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.initialize import initialize
from omnidet.ops.ms_deform_attn import Shapes, ms_deform_attn

Cfg = Mapping[str, Any]


class MultiScaleDeformableAttention(nn.Module):
    """Attention to a few points around a reference on each level of a pyramid (arXiv:2010.04159, section 4.1).

    Parameters: sampling_offsets, attention_weights, value_proj, output_proj.

    Args:
        embed_dims: C.
        num_heads: M; it divides C.
        num_levels: L.
        num_points: P, points on each level.
        im2col_step: accepted as configs carry it; there is no kernel that would take images in steps.
        dropout: the probability that an output is dropped.
        batch_first: must be True: tensors are (B, N, C).
        norm_cfg: accepted as configs carry it.
        init_cfg: how to initialise; see `initialize`. By default the heads look in M directions, at P distances.
        value_proj_ratio: the width of the values, in parts of C.
    """

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, num_levels: int = 4, num_points: int = 4,
                 im2col_step: int = 64, dropout: float = 0.1, batch_first: bool = True, norm_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, value_proj_ratio: float = 1.0) -> None:
        super().__init__()
        if not batch_first:
            raise ConfigError('MultiScaleDeformableAttention: batch_first is False; only tensors with images first '
                              'exist here')
        if embed_dims % num_heads:
            raise ConfigError(f'MultiScaleDeformableAttention: num_heads={num_heads} does not divide '
                              f'embed_dims={embed_dims}')
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        width = int(value_proj_ratio * embed_dims)
        self.sampling_offsets = nn.Linear(embed_dims, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(embed_dims, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(embed_dims, width)
        self.output_proj = nn.Linear(width, embed_dims)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()
        initialize(self, init_cfg)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Equal weights, and offsets of 1 to P cells in M directions around the reference."""
        M, L, P = self.num_heads, self.num_levels, self.num_points
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(M, dtype=torch.float32) * (2 * math.pi / M)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)    # on the unit square
        steps = torch.arange(1, P + 1, dtype=torch.float32)
        offsets = direction[:, None, None] * steps[:, None]    # (M, 1, P, 2)
        self.sampling_offsets.bias.copy_(offsets.expand(M, L, P, 2).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, memory: Tensor | None = None, *, query_pos: Tensor | None = None,
                key_padding_mask: Tensor | None = None, reference_points: Tensor, shapes: Shapes) -> Tensor:
        """query + attention of query to the points around its reference.

        Args:
            query: (B, Q, C).
            memory: (B, S, C), the cells of all levels one after another; the queries themselves where None.
            query_pos: (B, Q, C), added to queries before offsets and weights are taken from them.
            key_padding_mask: (B, S) bool, True for a cell that is padding.
            reference_points: (B, Q, L, 2) x and y, or (B, Q, L, 4) cx, cy, w and h; in 0..1 of the padded level.
            shapes: (h, w) of each level; h * w add up to S.

        Returns:
            (B, Q, C).
        """
        B, Q, _ = query.shape
        M, L, P = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(query if memory is None else memory)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.0)
        q = query if query_pos is None else query + query_pos
        offsets = self.sampling_offsets(q).view(B, Q, M, L, P, 2)
        weights = self.attention_weights(q).view(B, Q, M, L * P).softmax(-1).view(B, Q, M, L, P)
        reference = reference_points[:, :, None, :, None]    # (B, Q, 1, L, 1, 2 or 4)
        if reference.shape[-1] == 2:
            sizes = reference.new_tensor([(w, h) for h, w in shapes])
            locations = reference + offsets / sizes[:, None]
        else:
            locations = reference[..., :2] + offsets / P * reference[..., 2:] * 0.5
        out = ms_deform_attn(value.view(B, value.shape[1], M, -1), shapes, locations, weights)
        return query + self.dropout(self.output_proj(out))
