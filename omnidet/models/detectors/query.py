"""Detectors whose head predicts a set from the states of a transformer: their walk, and DETR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.models.detectors.single_stage import SingleStageDetector
from omnidet.models.parts.queries import QueryStates
from omnidet.nn.deformable_transformer import padding_mask
from omnidet.nn.transformer import DetrDecoder, Encoder, build_part
from omnidet.registry import DETECTORS, POSITIONAL_ENCODINGS
from omnidet.structures import ImageMeta, Result, Targets

Cfg = Mapping[str, Any]


class QueryDetector(SingleStageDetector):
    """Backbone, neck, a transformer, and a query head.

    A subclass owns the transformer and says `transform(...)`: from feature maps to `QueryStates`.
    """

    def transform(self, feats: Sequence[Tensor], image_shape: tuple[int, int], sizes: Tensor | None,
                  targets: Targets | None = None) -> QueryStates:
        """The states of the queries.

        Args:
            feats: L maps (B, C, H_l, W_l).
            image_shape: (H, W) of the batch.
            sizes: (B, 2), (h, w) of each image before padding; all fill the batch where None.
            targets: the ground truth, in training alone.
        """
        raise NotImplementedError(f'{type(self).__name__} does not define transform()')

    def loss(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """{name: scalar} for a batch of normalised images."""
        shape = (images.shape[-2], images.shape[-1])
        return self.bbox_head.loss(self.transform(self.extract_feat(images), shape, targets.sizes, targets), targets)

    def predict(self, images: Tensor, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image, in pixels of its file where `rescale`."""
        shape = (images.shape[-2], images.shape[-1])
        padded = any(tuple(m.img_shape[:2]) != shape for m in metas)
        sizes = torch.tensor([m.img_shape[:2] for m in metas], device=images.device) if padded else None
        return self.bbox_head.predict(self.transform(self.extract_feat(images), shape, sizes), metas, rescale)


def build_encoding(cfg: Cfg) -> nn.Module:
    """The positional encoding of a config; sines where it has no type."""
    return POSITIONAL_ENCODINGS.build({'type': 'SinePositionalEncoding', **cfg})


@DETECTORS.register
class DETR(QueryDetector):
    """DETR (arXiv:2005.12872).

    Parameters: backbone, neck, encoder, decoder, query_embedding, bbox_head.

    Args:
        backbone, neck, bbox_head: the parts.
        encoder: arguments of `Encoder`.
        decoder: arguments of `DetrDecoder`.
        positional_encoding: of the map's cells.
        num_queries: Q.
        train_cfg, test_cfg: handed to the head where it has none of its own.
        data_preprocessor: built by `omnidet.data`; images reach the model normalised.
        init_cfg: pretrained weights of the whole detector, read where they are asked for.
    """

    def __init__(self, backbone: Cfg, bbox_head: Cfg, encoder: Cfg, decoder: Cfg,
                 positional_encoding: Cfg = {'num_feats': 128, 'normalize': True}, neck: Cfg | None = None,
                 num_queries: int = 100, train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 data_preprocessor: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(backbone, bbox_head, neck, train_cfg, test_cfg, data_preprocessor, init_cfg)
        self.positional_encoding = build_encoding(positional_encoding)
        self.encoder = build_part(Encoder, encoder)
        self.decoder = build_part(DetrDecoder, decoder)
        check_widths(self)
        self.query_embedding = nn.Embedding(num_queries, self.encoder.embed_dims)

    def transform(self, feats: Sequence[Tensor], image_shape: tuple[int, int], sizes: Tensor | None,
                  targets: Targets | None = None) -> QueryStates:
        feat = feats[-1]
        mask = padding_mask(feat, image_shape, sizes)
        pos = self.positional_encoding(mask).to(feat.dtype).flatten(2).transpose(1, 2)    # (B, N, C)
        padding = None if sizes is None else mask.flatten(1)
        memory = self.encoder(feat.flatten(2).transpose(1, 2), pos, padding)
        query_pos = self.query_embedding.weight.expand(len(feat), -1, -1)
        query = torch.zeros_like(query_pos)
        return QueryStates(self.decoder(query, query_pos, memory, pos, padding))


def check_widths(detector: Any) -> None:
    """Hold the widths of a detector's encoder, decoder and head against each other.

    Raises:
        ConfigError: they differ.
    """
    widths = {'encoder': detector.encoder.embed_dims, 'decoder': detector.decoder.embed_dims,
              'bbox_head': detector.bbox_head.embed_dims}
    if len(set(widths.values())) > 1:
        raise ConfigError(f'{type(detector).__name__}: embed_dims must be the same everywhere; found '
                          + ', '.join(f'{width} in the {part}' for part, width in widths.items()))
