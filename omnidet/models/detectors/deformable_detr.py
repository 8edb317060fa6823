"""Deformable DETR."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.detectors.query import QueryDetector, build_encoding, check_widths
from omnidet.models.parts.queries import QueryPredictions, QueryStates
from omnidet.nn.deformable_transformer import (
    DeformableDetrDecoder,
    Pyramid,
    encode_pyramid,
    first_proposals,
    flatten_pyramid,
)
from omnidet.nn.positional_encoding import sine_encoding
from omnidet.nn.transformer import Encoder, build_part
from omnidet.registry import DETECTORS
from omnidet.structures import Targets

Cfg = Mapping[str, Any]


@DETECTORS.register
class DeformableDETR(QueryDetector):
    """Deformable DETR (arXiv:2010.04159).

    Parameters: backbone, neck, encoder, decoder, level_embed, bbox_head; query_embedding and reference_points_fc, or in
    two stages memory_trans_fc, memory_trans_norm, pos_trans_fc and pos_trans_norm.

    Args:
        backbone, neck, bbox_head: the parts.
        encoder: arguments of `Encoder`.
        decoder: arguments of `DeformableDetrDecoder`.
        positional_encoding: of the maps' cells.
        num_queries: Q.
        num_feature_levels: L.
        with_box_refine: let every decoder layer refine the boxes of the one before.
        as_two_stage: begin with the encoder's best Q boxes.
        train_cfg, test_cfg: handed to the head where it has none of its own.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.
    """

    def __init__(self, backbone: Cfg, bbox_head: Cfg, encoder: Cfg, decoder: Cfg,
                 positional_encoding: Cfg = {'num_feats': 128, 'normalize': True, 'offset': -0.5},
                 neck: Cfg | None = None, num_queries: int = 300, num_feature_levels: int = 4,
                 with_box_refine: bool = False, as_two_stage: bool = False, train_cfg: Cfg | None = None,
                 test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        if as_two_stage and not with_box_refine:
            raise ConfigError('DeformableDETR: as_two_stage needs with_box_refine: the encoder has layers of its own')
        head = {'share_pred_layer': not with_box_refine, 'as_two_stage': as_two_stage,
                'num_pred_layer': decoder['num_layers'] + as_two_stage, **bbox_head}
        super().__init__(backbone, head, neck, train_cfg, test_cfg, data_preprocessor, init_cfg)
        self.num_queries, self.with_box_refine, self.as_two_stage = num_queries, with_box_refine, as_two_stage
        self.positional_encoding = build_encoding(positional_encoding)
        self.encoder = build_part(Encoder, encoder, deformable=True)
        self.decoder = build_part(DeformableDetrDecoder, decoder)
        check_widths(self)
        C = self.encoder.embed_dims
        self.level_embed = nn.Parameter(torch.randn(num_feature_levels, C))
        if as_two_stage:
            self.memory_trans_fc, self.memory_trans_norm = _linear(C, C), nn.LayerNorm(C)
            self.pos_trans_fc, self.pos_trans_norm = _linear(2 * C, 2 * C), nn.LayerNorm(2 * C)
        else:
            self.query_embedding = nn.Embedding(num_queries, 2 * C)
            self.reference_points_fc = _linear(C, 2)

    def transform(self, feats: Sequence[Tensor], image_shape: tuple[int, int], sizes: Tensor | None,
                  targets: Targets | None = None) -> QueryStates:
        pyramid = flatten_pyramid(feats, self.positional_encoding, self.level_embed, image_shape, sizes)
        memory = encode_pyramid(self.encoder, pyramid)
        proposals = None
        if self.as_two_stage:
            query_pos, query, references, proposals = self.propose(memory, pyramid)
        else:
            query_pos, query = self.query_embedding.weight.expand(len(memory), -1, -1).chunk(2, -1)
            references = self.reference_points_fc(query_pos).sigmoid()
        branches = self.bbox_head.reg_branches if self.with_box_refine else None
        hidden, references = self.decoder(query, query_pos, memory, pyramid, references, branches)
        return QueryStates(hidden, references, proposals)

    def propose(self, memory: Tensor, pyramid: Pyramid) -> tuple[Tensor, Tensor, Tensor, QueryPredictions]:
        """The queries of the second stage: their positions, themselves, their boxes; and all that the first predicts.

        A token's score is its logit of class 0, which is what the encoder learns objects by.
        """
        tokens, base = first_proposals(memory, pyramid)
        tokens = self.memory_trans_norm(self.memory_trans_fc(tokens))
        logits = self.bbox_head.cls_branches[-1](tokens)
        boxes = self.bbox_head.reg_branches[-1](tokens) + base
        best = logits[..., 0].topk(min(self.num_queries, logits.shape[1])).indices
        references = boxes.gather(1, best[..., None].expand(-1, -1, 4)).detach().sigmoid()
        C = memory.shape[-1]
        waves = sine_encoding(references.float() * (2 * math.pi), C // 2).flatten(-2).to(memory.dtype)    # (B, Q, 2 C)
        query_pos, query = self.pos_trans_norm(self.pos_trans_fc(waves)).chunk(2, -1)
        return query_pos, query, references, QueryPredictions(logits, boxes.sigmoid())


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
