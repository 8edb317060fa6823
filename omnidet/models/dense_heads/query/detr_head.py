"""DETR's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn

from omnidet.models.dense_heads.query.driver import CROSS_ENTROPY, GIOU, L1, TESTING, TRAINING, QueryHead
from omnidet.models.parts.queries import QueryPredictions, QueryStates
from omnidet.nn import initialize
from omnidet.nn.ffn import FFN
from omnidet.registry import DENSE_HEADS

Cfg = Mapping[str, Any]


@DENSE_HEADS.register
class DETRHead(QueryHead):
    """DETR's head: a class and a box for each query, by layers that all decoder layers share (arXiv:2005.12872).

    Parameters: fc_cls, reg_ffn, fc_reg.

    Args:
        num_classes: K.
        embed_dims: C.
        num_reg_fcs: linear layers before the one that gives boxes.
        init_cfg: how to initialise; as torch does by default.
        The others: see `QueryHead`.
    """

    def __init__(self, num_classes: int, embed_dims: int = 256, num_reg_fcs: int = 2, sync_cls_avg_factor: bool = False,
                 loss_cls: Cfg = CROSS_ENTROPY, loss_bbox: Cfg = L1, loss_iou: Cfg = GIOU,
                 train_cfg: Cfg | None = TRAINING, test_cfg: Cfg | None = TESTING,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(num_classes, sync_cls_avg_factor, loss_cls, loss_bbox, loss_iou, train_cfg, test_cfg)
        self.embed_dims = embed_dims
        self.fc_cls = nn.Linear(embed_dims, self.cls_channels)
        self.reg_ffn = FFN(embed_dims, embed_dims, num_reg_fcs, add_identity=False)
        self.fc_reg = nn.Linear(embed_dims, 4)
        initialize(self, init_cfg)

    def forward(self, states: QueryStates, index: int) -> QueryPredictions:
        x = states.hidden[index]
        return QueryPredictions(self.fc_cls(x), self.fc_reg(F.relu(self.reg_ffn(x))).sigmoid())
