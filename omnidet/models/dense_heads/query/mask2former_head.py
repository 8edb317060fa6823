"""Mask2Former's head."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.models.parts.queries import QueryLayer, QueryPredictions, QueryTargets
from omnidet.models.parts.segments import Segments
from omnidet.models.parts.set_loss import set_loss
from omnidet.nn.initialize import initialize
from omnidet.nn.masked_transformer import Mask2FormerDecoder
from omnidet.nn.transformer import build_part
from omnidet.ops.distributed import reduce_mean
from omnidet.ops.points import even_points, sample_maps, uncertain_points
from omnidet.registry import ASSIGNERS, DENSE_HEADS, LOSSES, PLUGINS, POSITIONAL_ENCODINGS, SAMPLERS, check_arguments
from omnidet.structures import Assignment, Targets

Cfg = Mapping[str, Any]

SINES: Cfg = {'num_feats': 128, 'normalize': True}
CROSS_ENTROPY: Cfg = {'type': 'CrossEntropyLoss', 'use_sigmoid': False, 'loss_weight': 2.0, 'reduction': 'mean',
                      'class_weight': [1.0] * 133 + [0.1]}
MASK: Cfg = {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'reduction': 'mean', 'loss_weight': 5.0}
DICE: Cfg = {'type': 'DiceLoss', 'use_sigmoid': True, 'activate': True, 'reduction': 'mean', 'naive_dice': True,
             'eps': 1.0, 'loss_weight': 5.0}


@dataclass(frozen=True)
class MaskTraining:
    """The head's `train_cfg`.

    Attributes:
        assigner: which segment each query answers for.
        sampler: accepted as configs carry it; every query counts.
        num_points: P, at how many points masks are compared.
        oversample_ratio, importance_sample_ratio: see `uncertain_points`.
    """

    assigner: Cfg
    sampler: Cfg | None = None
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75


@DENSE_HEADS.register
class Mask2FormerHead(nn.Module):
    """A class and a mask for each query, whose attention is kept to its mask (arXiv:2112.01527).

    A mask is the product of a query's kernel and the features of pixels. That is linear, as bilinear resizing is: where
    masks are wanted at points, or on a coarser map, the features are brought there once and no query's whole mask is
    made. In training only the masks of matched queries are.

    Parameters: pixel_decoder, transformer_decoder, decoder_input_projs, query_embed, query_feat, level_embed,
    cls_embed, mask_embed.

    Args:
        in_channels: of the backbone's maps, finest first.
        feat_channels: C, of the queries.
        out_channels: of the features of pixels.
        num_things_classes, num_stuff_classes: K together.
        num_queries: Q.
        num_transformer_feat_level: how many maps the queries look at.
        pixel_decoder: gives those maps and the features of pixels.
        enforce_decoder_input_project: convolve the maps even where their width is right.
        transformer_decoder: arguments of `Mask2FormerDecoder`.
        positional_encoding: of the maps' cells.
        strides: of the backbone's maps, for the pixel decoder.
        loss_cls, loss_mask, loss_dice: the losses.
        train_cfg: the fields of `MaskTraining`; None for a head that will not train.
        test_cfg: accepted; the fusion head reads it.
        init_cfg: how to initialise.
    """

    def __init__(self, in_channels: Sequence[int], feat_channels: int, out_channels: int,
                 num_things_classes: int = 80, num_stuff_classes: int = 53, num_queries: int = 100,
                 num_transformer_feat_level: int = 3,
                 pixel_decoder: Cfg = {'type': 'MSDeformAttnPixelDecoder'},
                 enforce_decoder_input_project: bool = False,
                 transformer_decoder: Cfg = {'num_layers': 9, 'layer_cfg': {}},
                 positional_encoding: Cfg = SINES, strides: Sequence[int] = (4, 8, 16, 32),
                 loss_cls: Cfg = CROSS_ENTROPY, loss_mask: Cfg = MASK, loss_dice: Cfg = DICE,
                 train_cfg: Cfg | None = None, test_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        C, self.num_levels = feat_channels, num_transformer_feat_level
        self.num_things, self.num_stuff = num_things_classes, num_stuff_classes
        self.num_classes = num_things_classes + num_stuff_classes
        self.pixel_decoder = PLUGINS.build(pixel_decoder, in_channels=in_channels, strides=strides, feat_channels=C,
                                           out_channels=out_channels)
        self.transformer_decoder = build_part(Mask2FormerDecoder, transformer_decoder)
        width = self.transformer_decoder.embed_dims
        self.decoder_input_projs = nn.ModuleList(
            nn.Conv2d(C, width, 1) if width != C or enforce_decoder_input_project else nn.Identity()
            for _ in range(self.num_levels))
        self.positional_encoding = POSITIONAL_ENCODINGS.build({'type': 'SinePositionalEncoding', **positional_encoding})
        self.query_embed = nn.Embedding(num_queries, C)
        self.query_feat = nn.Embedding(num_queries, C)
        self.level_embed = nn.Embedding(self.num_levels, C)
        self.cls_embed = nn.Linear(C, self.num_classes + 1)
        self.mask_embed = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C), nn.ReLU(),
                                        nn.Linear(C, out_channels))
        self.loss_cls = LOSSES.build(loss_cls)
        self.loss_mask, self.loss_dice = LOSSES.build(loss_mask), LOSSES.build(loss_dice)
        weight = torch.as_tensor(getattr(self.loss_cls, 'class_weight', None) or 1.0, dtype=torch.float32)
        self.register_buffer('class_weight', weight.expand(self.num_classes + 1).clone(), persistent=False)
        if train_cfg is not None:
            check_arguments(MaskTraining, train_cfg)
            self.training_cfg = MaskTraining(**train_cfg)
            self.assigner = ASSIGNERS.build(self.training_cfg.assigner)
            if self.training_cfg.sampler is not None:
                SAMPLERS.build(self.training_cfg.sampler)    # a mistake in it is said, though nothing is sampled
        initialize(self.decoder_input_projs, {'type': 'Caffe2Xavier', 'layer': 'Conv2d'})
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The backbone's maps -> the queries before each decoder layer and after the last, and features of pixels.

        Returns:
            (B, Q, C) for each of the layers and one more, and (B, out_channels, h, w).
        """
        features, maps = self.pixel_decoder(feats)
        levels = [self._tokens(maps[i], i) for i in range(self.num_levels)]
        # where a query may look: its mask on each level, as the product with the features brought there
        coarse = [F.interpolate(features.detach(), size=m.shape[-2:], mode='bilinear', align_corners=False).flatten(2)
                  for m in maps[:self.num_levels]]

        @torch.no_grad()
        def blocked(query: Tensor, level: int) -> Tensor:
            outside = self.mask_embed(query) @ coarse[level] < 0    # (B, Q, N): a probability below a half
            return outside & ~outside.all(-1, keepdim=True)    # one whose mask is empty looks everywhere

        B = len(features)
        query, query_pos = (e.weight.expand(B, -1, -1) for e in (self.query_feat, self.query_embed))
        return self.transformer_decoder(query, query_pos, levels, blocked), features

    def _tokens(self, x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """A map as tokens, and their positions: (B, N, C) each."""
        padding = torch.zeros(x.shape[0], *x.shape[-2:], dtype=torch.bool, device=x.device)
        pos = self.positional_encoding(padding).to(x.dtype).flatten(2).mT
        tokens = self.decoder_input_projs[level](x).flatten(2).mT
        return tokens + self.level_embed.weight[level], pos

    def predict(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What the last layer predicts: logits (B, Q, K + 1), 'nothing' last, and logits of masks (B, Q, h, w)."""
        states, features = self(feats)
        return self.cls_embed(states[-1]), torch.einsum('bqc,bchw->bqhw', self.mask_embed(states[-1]), features)

    def loss(self, feats: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch: {name: scalar}, of the last layer without a prefix."""
        states, features = self(feats)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            segments = Segments.of(targets, self.num_things, self.num_stuff)
            # matching compares masks at points that all layers share
            points = even_points(len(features), self.training_cfg.num_points, features.device)
            truth = QueryTargets(segments.labels, segments.valid, masks=segments.at(points))
            sampled = sample_maps(features.detach(), points)    # (B, C, P)

            def match(predictions: Iterable[QueryPredictions], truths: Iterable[QueryTargets]) -> list[Assignment]:
                return self.assigner((p._replace(masks=p.kernels.detach() @ sampled)    # type: ignore[union-attr]
                                      for p in predictions), truths)

            layers = [QueryLayer(QueryPredictions(self.cls_embed(x).float(), kernels=self.mask_embed(x).float()),
                                 '' if i == len(states) - 1 else f'd{i}.') for i, x in enumerate(states)]
            losses = functools.partial(self.losses, features=features, segments=segments)
            return set_loss(layers, truth, match, losses)

    def losses(self, pred: QueryPredictions, assignment: Assignment, truth: QueryTargets, features: Tensor,
               segments: Segments) -> dict[str, Tensor]:
        """The losses of one layer's predictions.

        Masks are averaged over the matched queries of all processes; the class loss over all queries, weighted.

        Args:
            features: (B, C, h, w), of pixels.
            segments: what is to be found.
        """
        label = torch.where(assignment.positive, truth.labels.gather(1, assignment.gt), self.num_classes)
        loss_cls = self.loss_cls(pred.logits, label, avg_factor=self.class_weight[label].sum())

        # the matched queries first; where an image has fewer than another, some without an object fill its places
        query = assignment.positive.byte().argsort(dim=1, descending=True, stable=True)[:, :segments.most]    # (B, N)
        place, weight = assignment.gt.gather(1, query), assignment.positive.gather(1, query).flatten().float()
        assert pred.kernels is not None
        kernels = pred.kernels.gather(1, query[..., None].expand(-1, -1, pred.kernels.shape[2]))
        maps = torch.einsum('bnc,bchw->bnhw', kernels, features).flatten(0, 1)    # (B * N, h, w)
        cfg = self.training_cfg
        points = uncertain_points(maps.detach(), cfg.num_points, cfg.oversample_ratio, cfg.importance_sample_ratio)
        logits = sample_maps(maps[:, None], points)[:, 0]    # (B * N, P)
        masks = segments.at_own(place, points)
        matched = reduce_mean(weight.sum()).clamp(min=1)
        return {'loss_cls': loss_cls,
                'loss_mask': self.loss_mask(logits, masks, weight, avg_factor=matched * cfg.num_points),
                'loss_dice': self.loss_dice(logits, masks, weight, avg_factor=matched)}
