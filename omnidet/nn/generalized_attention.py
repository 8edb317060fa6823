"""Attention taken apart into what a query sees in a key (arXiv:1904.05873)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.registry import PLUGINS

WAVE_LENGTH = 1000.0


@PLUGINS.register
class GeneralizedAttention(nn.Module):
    """Multi-head attention between the pixels of a map, added to it (equations 1 to 3 and table 1).

    The energy of a query and a key is a sum of up to four terms: of the query's and the key's content (E1), of the
    query's content and the relative position (E2), of the key's content alone (E3), of the relative position alone
    (E4).

    Parameters: query_conv, key_conv, value_conv, appr_geom_fc_x, appr_geom_fc_y, appr_bias, geom_bias, those that the
    terms need; proj_conv; gamma, a factor of the whole that begins at 0.

    Args:
        in_channels: of the map.
        spatial_range: how many cells around it a query sees, in each direction; -1 is all.
        num_heads: groups of channels that attend on their own.
        position_embedding_dim: length of the encoding of a relative position; in_channels where -1.
        position_magnitude: factor of relative positions.
        kv_stride, q_stride: take every n-th pixel for keys, and for queries (whose output is then resized).
        attention_type: a digit for each of E1 to E4, 1 where it is there.
    """

    plugin_name = 'gen_attention_block'

    def __init__(self, in_channels: int, spatial_range: int = -1, num_heads: int = 9, position_embedding_dim: int = -1,
                 position_magnitude: int = 1, kv_stride: int = 2, q_stride: int = 1,
                 attention_type: str = '1111') -> None:
        super().__init__()
        if len(attention_type) != 4 or not set(attention_type) <= {'0', '1'} or '1' not in attention_type:
            raise ConfigError(f"GeneralizedAttention: attention_type is {attention_type!r}; it is four digits, 0 or 1, "
                              "with a 1 among them: '0010'")
        self.terms = tuple(digit == '1' for digit in attention_type)
        self.spatial_range, self.num_heads, self.position_magnitude = spatial_range, num_heads, position_magnitude
        self.kv_stride, self.q_stride = kv_stride, q_stride
        self.position_dim = in_channels if position_embedding_dim < 0 else position_embedding_dim
        width = in_channels // num_heads * num_heads
        if width == 0 or self.position_dim % 4:
            raise ConfigError(f'GeneralizedAttention: {in_channels} channels do not go into {num_heads} heads with '
                              f'positions of {self.position_dim} numbers, which must be a multiple of 4')
        content, content_at, key_only, position_only = self.terms
        if content or content_at:
            self.query_conv = nn.Conv2d(in_channels, width, 1, bias=False)
        if content or key_only:
            self.key_conv = nn.Conv2d(in_channels, width, 1, bias=False)
        self.value_conv = nn.Conv2d(in_channels, width, 1, bias=False)
        if content_at or position_only:
            self.appr_geom_fc_x = nn.Linear(self.position_dim // 2, width, bias=False)
            self.appr_geom_fc_y = nn.Linear(self.position_dim // 2, width, bias=False)
        bound = (2 * (in_channels // num_heads)) ** -0.5
        if key_only:
            self.appr_bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        if position_only:
            self.geom_bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.proj_conv = nn.Conv2d(width, in_channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.kv_downsample = nn.MaxPool2d(1, kv_stride) if kv_stride > 1 else nn.Identity()
        self.q_downsample = nn.MaxPool2d(1, q_stride) if q_stride > 1 else nn.Identity()
        for conv in self.children():
            if isinstance(conv, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_uniform_(conv.weight, a=1, mode='fan_in', nonlinearity='leaky_relu')
        nn.init.zeros_(self.proj_conv.bias)    # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), also returned."""
        queries, keys = self.q_downsample(x), self.kv_downsample(x)
        (h, w), (H, W) = queries.shape[2:], keys.shape[2:]
        energy = self._energy(queries, keys)    # (B or 1, M, h or 1, w or 1, H, W)
        if self.spatial_range >= 0:
            energy = energy.masked_fill(self._far((h, w), (H, W), x.device), -math.inf)
        weights = energy.flatten(4).softmax(-1)
        value = self._heads(self.value_conv(keys)).flatten(3)    # (B, M, d, HW)
        out = torch.einsum('bmhwk,bmdk->bmdhw', weights.expand(len(x), -1, -1, -1, -1), value)
        out = self.proj_conv(out.flatten(1, 2))    # one pixel stands for all where no term depends on the query
        if self.q_stride > 1:
            out = F.interpolate(out, x.shape[2:], mode='bilinear', align_corners=False)
        return x + self.gamma * out

    def _heads(self, x: Tensor) -> Tensor:
        """(B, M * d, H, W) -> (B, M, d, H, W)."""
        return x.unflatten(1, (self.num_heads, -1))

    def _energy(self, queries: Tensor, keys: Tensor) -> Tensor:
        content, content_at, key_only, position_only = self.terms
        query = self._heads(self.query_conv(queries)) if content or content_at else None
        energy: Tensor | float = 0.0
        if content or key_only:
            key = self._heads(self.key_conv(keys)).flatten(3)
            asker = self._asker(query if content else None, self.appr_bias if key_only else None)
            energy = torch.einsum('bmdhw,bmdk->bmhwk', asker.expand(len(keys), -1, -1, -1, -1), key)
            energy = energy.unflatten(4, keys.shape[2:])
        if content_at or position_only:
            asker = self._asker(query if content_at else None, self.geom_bias if position_only else None)
            asker = asker.expand(-1, -1, -1, *queries.shape[2:]) / 2 ** 0.5
            rows = self._positions(self.appr_geom_fc_y, queries.shape[2], keys.shape[2], keys)
            columns = self._positions(self.appr_geom_fc_x, queries.shape[3], keys.shape[3], keys)
            energy = energy + torch.einsum('bmdhw,hkmd->bmhwk', asker, rows)[..., None] \
                + torch.einsum('bmdhw,wkmd->bmhwk', asker, columns)[..., None, :]
        assert isinstance(energy, Tensor)    # there is a term at least
        return energy

    def _asker(self, query: Tensor | None, bias: Tensor | None) -> Tensor:
        """What meets the keys: the query, the bias that stands for any query, or their sum, (B, M, d, h, w)."""
        if bias is None:
            assert query is not None
            return query
        bias = bias.view(1, self.num_heads, -1, 1, 1)
        return bias if query is None else query + bias

    def _positions(self, fc: nn.Module, queries: int, keys: int, like: Tensor) -> Tensor:
        """The embedded relative positions along one axis, (queries, keys, M, d)."""
        at = torch.arange(queries, device=like.device)[:, None] * self.q_stride
        offset = (at - torch.arange(keys, device=like.device) * self.kv_stride) * self.position_magnitude
        quarter = torch.arange(self.position_dim // 4, device=like.device)
        angle = offset[..., None] / WAVE_LENGTH ** (4 / self.position_dim * quarter)
        return fc(torch.cat([angle.sin(), angle.cos()], -1).to(like.dtype)).unflatten(-1, (self.num_heads, -1))

    def _far(self, queries: tuple[int, int], keys: tuple[int, int], device: torch.device) -> Tensor:
        """(h, w, H, W) bool, True where a key lies outside the query's range."""
        def along(q: int, k: int) -> Tensor:
            at = torch.arange(q, device=device)[:, None] * self.q_stride
            key = torch.arange(k, device=device) * self.kv_stride
            return (key - at).abs() > self.spatial_range
        rows, columns = along(queries[0], keys[0]), along(queries[1], keys[1])
        return rows[:, None, :, None] | columns[None, :, None, :]
