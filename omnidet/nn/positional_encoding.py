"""Where a cell of a map, or a box, lies: as vectors that attention can add to features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.nn.initialize import initialize
from omnidet.registry import POSITIONAL_ENCODINGS

Cfg = Mapping[str, Any]


def sine_encoding(x: Tensor, num_feats: int, temperature: float = 10000) -> Tensor:
    """sin and cos of `x` at wave lengths that grow geometrically (arXiv:1706.03762, section 3.5).

    Args:
        x: (...,), in radians of the shortest wave.
        num_feats: F, even.
        temperature: the ratio of the longest wave to the shortest, nearly.

    Returns:
        (..., F): sin and cos of x / temperature^(2 i / F) in turn, for i = 0, 1, ... F / 2 - 1.
    """
    i = torch.arange(num_feats // 2, dtype=torch.float32, device=x.device)
    angle = x[..., None] / temperature ** (2 * i / num_feats)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def encode_coordinates(coordinates: Tensor, num_feats: int = 128, temperature: float = 10000) -> Tensor:
    """(..., D) coordinates in 0..1 (x and y, or cx, cy, w and h) -> (..., D * num_feats), y before x.

    (arXiv:2201.12329, section 4.2.)
    """
    waves = sine_encoding(coordinates.float() * (2 * math.pi), num_feats, temperature)    # (..., D, num_feats)
    return torch.cat([waves[..., 1, :], waves[..., 0, :], waves[..., 2:, :].flatten(-2)], -1).to(coordinates.dtype)


@POSITIONAL_ENCODINGS.register
class SinePositionalEncoding(nn.Module):
    """Waves over the rows and the columns of a map (arXiv:2005.12872, appendix A.4).

    Args:
        num_feats: F; half the channels, for rows and for columns each.
        temperature: see `sine_encoding`.
        normalize: count rows and columns in parts of the image.
        scale: radians of the whole image, where normalised.
        eps: added to the image's size before dividing by it.
        offset: added to rows and columns, which count from 1, where normalised.
        init_cfg: accepted as configs carry it.
    """

    def __init__(self, num_feats: int, temperature: float = 10000, normalize: bool = False,
                 scale: float = 2 * math.pi, eps: float = 1e-6, offset: float = 0.0,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.num_feats, self.temperature, self.normalize = num_feats, temperature, normalize
        self.scale, self.eps, self.offset = scale, eps, offset

    def forward(self, padding: Tensor) -> Tensor:
        """(B, H, W) bool, True where a cell is padding -> (B, 2 F, H, W), first rows, then columns."""
        image = (~padding).float()
        y, x = image.cumsum(1), image.cumsum(2)
        if self.normalize:
            y = (y + self.offset) / (y[:, -1:] + self.eps) * self.scale
            x = (x + self.offset) / (x[:, :, -1:] + self.eps) * self.scale
        waves = [sine_encoding(t, self.num_feats, self.temperature) for t in (y, x)]
        return torch.cat(waves, -1).permute(0, 3, 1, 2)


@POSITIONAL_ENCODINGS.register
class LearnedPositionalEncoding(nn.Module):
    """A learned vector for each row and each column. Parameters: row_embed, col_embed.

    Args:
        num_feats: F; half the channels, for rows and for columns each.
        row_num_embed, col_num_embed: the most rows and columns that a map may have.
        init_cfg: how to initialise; uniform in 0..1 by default.
    """

    def __init__(self, num_feats: int, row_num_embed: int = 50, col_num_embed: int = 50,
                 init_cfg: Cfg | Sequence[Cfg] | None = {'type': 'Uniform', 'layer': 'Embedding'}) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(row_num_embed, num_feats)
        self.col_embed = nn.Embedding(col_num_embed, num_feats)
        initialize(self, init_cfg)

    def forward(self, padding: Tensor) -> Tensor:
        """(B, H, W), of which only the shape counts -> (B, 2 F, H, W), first columns, then rows."""
        B, H, W = padding.shape
        x, y = self.col_embed.weight[:W], self.row_embed.weight[:H]
        both = torch.cat([x.expand(H, W, -1), y[:, None].expand(H, W, -1)], -1)
        return both.permute(2, 0, 1).expand(B, -1, -1, -1)
