"""DINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.dense_heads.query.denoising import CdnQueryGenerator
from omnidet.models.detectors.query import QueryDetector, build_encoding, check_widths
from omnidet.models.parts.queries import QueryPredictions, QueryStates, query_targets
from omnidet.nn.deformable_transformer import DinoDecoder, Pyramid, encode_pyramid, first_proposals, flatten_pyramid
from omnidet.nn.transformer import Encoder, build_part
from omnidet.registry import DETECTORS
from omnidet.structures import Targets

Cfg = Mapping[str, Any]


@DETECTORS.register
class DINO(QueryDetector):
    """DINO (arXiv:2203.03605).

    Parameters: backbone, neck, encoder, decoder, level_embed, memory_trans_fc, memory_trans_norm, query_embedding,
    dn_query_generator, bbox_head.

    Args:
        backbone, neck, bbox_head: the parts.
        encoder: arguments of `Encoder`.
        decoder: arguments of `DinoDecoder`.
        positional_encoding: of the maps' cells.
        num_queries: Q.
        num_feature_levels: L.
        with_box_refine, as_two_stage: must be True; DINO has both.
        dn_cfg: arguments of `CdnQueryGenerator`.
        train_cfg, test_cfg: handed to the head where it has none of its own.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.
    """

    def __init__(self, backbone: Cfg, bbox_head: Cfg, encoder: Cfg, decoder: Cfg,
                 positional_encoding: Cfg = {'num_feats': 128, 'normalize': True, 'temperature': 20},
                 neck: Cfg | None = None, num_queries: int = 900, num_feature_levels: int = 4,
                 with_box_refine: bool = True, as_two_stage: bool = True, dn_cfg: Cfg | None = None,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None, data_preprocessor: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        if not (with_box_refine and as_two_stage):
            raise ConfigError(f'DINO: with_box_refine is {with_box_refine} and as_two_stage is {as_two_stage}; '
                              'both must be True')
        head = {'share_pred_layer': False, 'as_two_stage': True, 'num_pred_layer': decoder['num_layers'] + 1,
                **bbox_head}
        super().__init__(backbone, head, neck, train_cfg, test_cfg, data_preprocessor, init_cfg)
        self.num_queries = num_queries
        self.positional_encoding = build_encoding(positional_encoding)
        self.encoder = build_part(Encoder, encoder, deformable=True)
        self.decoder = build_part(DinoDecoder, decoder)
        check_widths(self)
        C = self.encoder.embed_dims
        self.level_embed = nn.Parameter(torch.randn(num_feature_levels, C))
        self.memory_trans_fc, self.memory_trans_norm = nn.Linear(C, C), nn.LayerNorm(C)
        self.query_embedding = nn.Embedding(num_queries, C)
        for layer in (self.memory_trans_fc, self.query_embedding):
            nn.init.xavier_uniform_(layer.weight)
        self.dn_query_generator = build_part(CdnQueryGenerator, dn_cfg or {}, embed_dims=C,
                                             num_classes=self.bbox_head.num_classes, num_matching_queries=num_queries)

    def transform(self, feats: Sequence[Tensor], image_shape: tuple[int, int], sizes: Tensor | None,
                  targets: Targets | None = None) -> QueryStates:
        pyramid = flatten_pyramid(feats, self.positional_encoding, self.level_embed, image_shape, sizes)
        memory = encode_pyramid(self.encoder, pyramid)
        references, proposals = self.propose(memory, pyramid)
        query = self.query_embedding.weight[:references.shape[1]].expand(len(memory), -1, -1)
        noise, mask = None, None
        if targets is not None:
            noise = self.dn_query_generator(query_targets(targets), references.shape[1])
            query = torch.cat([noise.queries.to(query.dtype), query], 1)
            references, mask = torch.cat([noise.boxes.sigmoid(), references], 1), noise.attn_mask
        hidden, references = self.decoder(query, memory, pyramid, references, self.bbox_head.reg_branches, mask)
        return QueryStates(hidden, references, proposals, noise)

    def propose(self, memory: Tensor, pyramid: Pyramid) -> tuple[Tensor, QueryPredictions]:
        """The encoder's best Q boxes, by the score of their best class: without gradient, and as predictions."""
        tokens, base = first_proposals(memory, pyramid)
        tokens = self.memory_trans_norm(self.memory_trans_fc(tokens))
        logits = self.bbox_head.cls_branches[-1](tokens)
        boxes = self.bbox_head.reg_branches[-1](tokens) + base
        best = logits.amax(-1).topk(min(self.num_queries, logits.shape[1])).indices[..., None]
        boxes = boxes.gather(1, best.expand(-1, -1, 4)).sigmoid()
        logits = logits.gather(1, best.expand(-1, -1, logits.shape[-1]))
        return boxes.detach(), QueryPredictions(logits, boxes)
