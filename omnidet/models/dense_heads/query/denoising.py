"""Queries made from noisy objects, which speed training up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.parts.queries import Denoising, QueryTargets
from omnidet.ops.relative_boxes import cxcywh_to_xyxy, inverse_sigmoid, xyxy_to_cxcywh
from omnidet.structures import Assignment

GROUPS: Mapping[str, Any] = {'dynamic': True, 'num_groups': None, 'num_dn_queries': 100}


class CdnQueryGenerator(nn.Module):
    """Contrastive denoising (arXiv:2203.03605, section 3.3).

    A group has two queries for each of the G objects of the batch: one with little noise, which is to find the object,
    and one with more, which is to find nothing. Groups do not see each other, and the others see none of them.

    Parameters: label_embedding.

    Args:
        num_classes: K.
        embed_dims: C.
        num_matching_queries: how many other queries there are.
        label_noise_scale: half of it is the share of labels that are drawn anew.
        box_noise_scale: by how much of half its width and height a box's corner is moved, at most; the second query of
            a pair by up to twice as much.
        group_cfg: `dynamic`, and `num_dn_queries` over G is how many groups there are; else `num_groups` says it.
    """

    def __init__(self, num_classes: int, embed_dims: int, num_matching_queries: int, label_noise_scale: float = 0.5,
                 box_noise_scale: float = 1.0, group_cfg: Mapping[str, Any] = GROUPS) -> None:
        super().__init__()
        self.num_classes, self.num_matching_queries = num_classes, num_matching_queries
        self.label_noise_scale, self.box_noise_scale = label_noise_scale, box_noise_scale
        self.dynamic = group_cfg.get('dynamic', True)
        self.num_dn_queries = group_cfg.get('num_dn_queries')
        self.num_groups = group_cfg.get('num_groups')
        self.label_embedding = nn.Embedding(num_classes, embed_dims)

    def forward(self, truth: QueryTargets, others: int | None = None) -> Denoising:
        """The queries of a batch, group by group: G with little noise, then G with more.

        Args:
            truth: the objects.
            others: N, how many other queries there are; `num_matching_queries` where None.
        """
        G = truth.labels.shape[1]
        groups = max(self.num_dn_queries // max(G, 1), 1) if self.dynamic else self.num_groups
        labels = self._noisy_labels(truth.labels.repeat(1, 2 * groups))    # (B, Q), Q = groups * 2 * G
        logits = self._noisy_boxes(truth.boxes, groups)    # (B, Q, 4)
        valid = truth.valid.repeat(1, 2 * groups)
        # An object's place that is padding in every image has no loss and is seen by nobody: however far G is padded.
        unused = ~truth.valid.any(0).repeat(2 * groups)    # (Q,)

        place = torch.arange(valid.shape[1], device=valid.device)
        positive = valid & (place % (2 * G) < G)
        assignment = Assignment((place % G).expand(valid.shape), positive, unused.expand(valid.shape),
                                torch.zeros_like(valid, dtype=torch.float32))
        queries = self.label_embedding(labels) * valid[..., None]
        return Denoising(queries, logits * valid[..., None], self._mask(place // (2 * G), unused, others), assignment)

    def _noisy_labels(self, labels: Tensor) -> Tensor:
        other = torch.randint_like(labels, self.num_classes)
        return torch.where(torch.rand(labels.shape, device=labels.device) < self.label_noise_scale / 2, other, labels)

    def _noisy_boxes(self, boxes: Tensor, groups: int) -> Tensor:
        """(B, G, 4) cxcywh in 0..1 -> (B, groups * 2 * G, 4) logits of cxcywh."""
        B, G, _ = boxes.shape
        shape = (B, groups, 2, G, 4)
        amount = torch.rand(shape, device=boxes.device)
        amount = amount + torch.tensor([0.0, 1.0], device=boxes.device)[:, None, None]
        sign = torch.randint(0, 2, shape, device=boxes.device) * 2 - 1
        corners = cxcywh_to_xyxy(boxes)[:, None, None]
        half = boxes[..., 2:].repeat(1, 1, 2)[:, None, None] / 2
        noisy = (corners + amount * sign * half * self.box_noise_scale).clamp(0, 1)
        return inverse_sigmoid(xyxy_to_cxcywh(noisy), eps=1e-3).view(B, -1, 4)

    def _mask(self, group: Tensor, unused: Tensor, others: int | None) -> Tensor:
        """(Q + N, Q + N) bool, True where one may not look at another; `group` (Q,) numbers the groups."""
        N = self.num_matching_queries if others is None else others
        group = torch.cat([group, group.new_full((N,), -1)])
        other_group = (group[:, None] != group) & (group >= 0)
        return other_group | torch.cat([unused, unused.new_zeros(N)])
