"""Transformers over a pyramid: its levels as one row of tokens, first proposals at them, and decoders of boxes.

Letters: B images, L levels, S tokens of all levels, Q queries, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.ffn import MLP
from omnidet.nn.initialize import initialize
from omnidet.nn.positional_encoding import encode_coordinates
from omnidet.nn.transformer import DecoderLayer, build_part, xavier_
from omnidet.ops.relative_boxes import shift_boxes

Cfg = Mapping[str, Any]


class Pyramid(NamedTuple):
    """The levels of a pyramid, one after another, row by row.

    Attributes:
        tokens: (B, S, C).
        pos: (B, S, C), where each token lies, and on which level.
        padding: (B, S) bool, True for a token that is padding; None where none is.
        shapes: (h, w) of each level.
        centers: (B, S, 2), x and y of each token in 0..1 of the image without its padding.
        valid_ratios: (B, L, 2), the image's width and height in parts of the padded level.
    """

    tokens: Tensor
    pos: Tensor
    padding: Tensor | None
    shapes: tuple[tuple[int, int], ...]
    centers: Tensor
    valid_ratios: Tensor


def padding_mask(feat: Tensor, image_shape: tuple[int, int], sizes: Tensor | None) -> Tensor:
    """(B, h, w) bool, True where a cell of a map (B, C, h, w) lies in the batch's padding.

    Args:
        image_shape: (H, W) of the batch.
        sizes: (B, 2), (h, w) of each image before padding; all fill the batch where None.
    """
    B, (h, w) = len(feat), feat.shape[-2:]
    if sizes is None:
        return torch.zeros(B, h, w, dtype=torch.bool, device=feat.device)
    sizes = sizes.to(feat.device)
    y = (torch.arange(h, device=feat.device) * (image_shape[0] / h)).floor()
    x = (torch.arange(w, device=feat.device) * (image_shape[1] / w)).floor()
    return (y >= sizes[:, :1])[:, :, None] | (x >= sizes[:, 1:])[:, None]


def flatten_pyramid(feats: Sequence[Tensor], encoding: nn.Module, level_embed: Tensor, image_shape: tuple[int, int],
                    sizes: Tensor | None) -> Pyramid:
    """The maps (B, C, h, w) of L levels as one row of tokens.

    Args:
        encoding: (B, h, w) padding -> (B, C, h, w) positions.
        level_embed: (L, C), added to the positions of each level.
        image_shape, sizes: see `padding_mask`.
    """
    tokens, pos, paddings, centers, ratios = [], [], [], [], []
    for feat, embed in zip(feats, level_embed, strict=True):
        padding = padding_mask(feat, image_shape, sizes)
        h, w = padding.shape[1:]
        size = torch.stack([(~padding[:, 0]).sum(1), (~padding[:, :, 0]).sum(1)], -1).float()    # (B, 2) in cells
        y, x = torch.meshgrid(torch.arange(h, device=feat.device), torch.arange(w, device=feat.device), indexing='ij')
        cells = torch.stack([x, y], -1).view(-1, 2) + 0.5
        tokens.append(feat.flatten(2).transpose(1, 2))
        pos.append(encoding(padding).flatten(2).transpose(1, 2) + embed)
        paddings.append(padding.flatten(1))
        centers.append(cells / size[:, None])
        ratios.append(size / size.new_tensor([w, h]))
    return Pyramid(torch.cat(tokens, 1), torch.cat(pos, 1), None if sizes is None else torch.cat(paddings, 1),
                   tuple((f.shape[-2], f.shape[-1]) for f in feats), torch.cat(centers, 1), torch.stack(ratios, 1))


def on_levels(references: Tensor, valid_ratios: Tensor) -> Tensor:
    """Points or boxes (B, Q, 2 or 4) of the images -> (B, Q, L, 2 or 4) of the padded levels."""
    return references[:, :, None] * valid_ratios.repeat(1, 1, references.shape[-1] // 2)[:, None]


def encode_pyramid(encoder: nn.Module, pyramid: Pyramid) -> Tensor:
    """The tokens (B, S, C) after an encoder of deformable layers; each token refers to its own place."""
    return encoder(pyramid.tokens, pyramid.pos, pyramid.padding, shapes=pyramid.shapes,
                   reference_points=on_levels(pyramid.centers, pyramid.valid_ratios))


def first_proposals(memory: Tensor, pyramid: Pyramid) -> tuple[Tensor, Tensor]:
    """A box at each token, of 0.05 of the image on the first level and twice the last one's size on the next.

    (arXiv:2010.04159, appendix A.4.)

    Args:
        memory: (B, S, C), the encoded tokens.

    Returns:
        The tokens, 0 where one is padding or lies at the very edge; and the logits (B, S, 4) of cxcywh, infinite there.
    """
    sizes = [torch.full((h * w,), 0.05 * 2.0 ** level, device=memory.device)
             for level, (h, w) in enumerate(pyramid.shapes)]
    wh = torch.cat(sizes)[:, None].expand(len(memory), -1, 2)
    boxes = torch.cat([pyramid.centers, wh], -1)
    out = ~((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
    if pyramid.padding is not None:
        out = out | pyramid.padding[..., None]
    boxes = boxes.masked_fill(out, 0.5)
    return memory.masked_fill(out, 0), (boxes / (1 - boxes)).log().masked_fill(out, torch.inf)


class DeformableDetrDecoder(nn.Module):
    """Decoder layers that look at points around a reference, which each of them may refine (arXiv:2010.04159).

    Parameters: layers.

    Args:
        num_layers: how many.
        layer_cfg: arguments of `DecoderLayer`.
        return_intermediate: give the queries after each layer, not after the last alone.
        post_norm_cfg: must be None: there is no norm of what a layer gives.
        init_cfg: how to initialise; matrices are drawn after Xavier by default.
    """

    def __init__(self, num_layers: int, layer_cfg: Cfg, return_intermediate: bool = True,
                 post_norm_cfg: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        _refuse_post_norm(post_norm_cfg, 'DeformableDETR')
        self.return_intermediate = return_intermediate
        self.layers = nn.ModuleList(build_part(DecoderLayer, layer_cfg, deformable=True) for _ in range(num_layers))
        self.embed_dims = self.layers[0].ffn.embed_dims
        xavier_(self)
        initialize(self, init_cfg)

    def forward(self, query: Tensor, query_pos: Tensor, memory: Tensor, pyramid: Pyramid, references: Tensor,
                reg_branches: nn.ModuleList | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """The queries after each layer, and the references that each layer began with.

        Args:
            query, query_pos: (B, Q, C).
            memory: (B, S, C), the encoded tokens.
            references: (B, Q, 2) points or (B, Q, 4) boxes, in 0..1 of the image.
            reg_branches: what refines the references after each layer; None to keep them.

        Returns:
            Lists of (B, Q, C) and of (B, Q, 2 or 4).
        """
        hidden, began = [], []
        for i, layer in enumerate(self.layers):
            began.append(references)
            query = layer(query, query_pos, memory, pyramid.padding, shapes=pyramid.shapes,
                          reference_points=on_levels(references, pyramid.valid_ratios))
            hidden.append(query)
            if reg_branches is not None:
                references = shift_boxes(references, reg_branches[i](query)).detach()
        return (hidden, began) if self.return_intermediate else (hidden[-1:], began[-1:])


class DinoDecoder(nn.Module):
    """Decoder layers that refine boxes, whose encoding is what positions queries (arXiv:2203.03605, section 3).

    Each layer's box is regressed from the one before it with its gradient ('look forward twice', section 3.5). Places
    are encoded in parts of the batch with its padding, as published weights know them: how far an image is padded
    therefore changes what is found in it, a little.

    Parameters: layers, ref_point_head, norm.

    Args:
        num_layers: how many.
        layer_cfg: arguments of `DecoderLayer`.
        return_intermediate: give the queries after each layer, not after the last alone.
        post_norm_cfg: must be None: the norm of what layers give is a layer norm.
        init_cfg: how to initialise; matrices are drawn after Xavier by default.
    """

    def __init__(self, num_layers: int, layer_cfg: Cfg, return_intermediate: bool = True,
                 post_norm_cfg: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        _refuse_post_norm(post_norm_cfg, 'DINO')
        self.return_intermediate = return_intermediate
        self.layers = nn.ModuleList(build_part(DecoderLayer, layer_cfg, deformable=True) for _ in range(num_layers))
        C = self.embed_dims = self.layers[0].ffn.embed_dims
        self.ref_point_head = MLP(2 * C, C, C, 2)
        self.norm = nn.LayerNorm(C)
        xavier_(self)
        initialize(self, init_cfg)

    def forward(self, query: Tensor, memory: Tensor, pyramid: Pyramid, references: Tensor,
                reg_branches: nn.ModuleList, self_attn_mask: Tensor | None = None
                ) -> tuple[list[Tensor], list[Tensor]]:
        """The queries after each layer, and the references that their boxes are regressed from.

        Args:
            query: (B, Q, C).
            memory: (B, S, C), the encoded tokens.
            references: (B, Q, 4) cxcywh in 0..1 of the image.
            reg_branches: what refines the references after each layer.
            self_attn_mask: (Q, Q) bool, True where a query may not look at another.

        Returns:
            Lists of (B, Q, C) and of (B, Q, 4).
        """
        hidden, bases, base = [], [], references
        for i, layer in enumerate(self.layers):
            bases.append(base)
            points = on_levels(references, pyramid.valid_ratios)
            query_pos = self.ref_point_head(encode_coordinates(points[:, :, 0], self.embed_dims // 2))
            query = layer(query, query_pos, memory, pyramid.padding, self_attn_mask, shapes=pyramid.shapes,
                          reference_points=points)
            hidden.append(self.norm(query))
            base = shift_boxes(references, reg_branches[i](query), eps=1e-3)
            references = base.detach()
        return (hidden, bases) if self.return_intermediate else (hidden[-1:], bases[-1:])


def _refuse_post_norm(cfg: Cfg | None, name: str) -> None:
    if cfg is not None:
        raise ConfigError(f'the decoder of {name} has no post_norm_cfg but None; found {dict(cfg)}')
