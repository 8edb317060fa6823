"""The heads of Deformable DETR and DINO."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from omnidet.models.dense_heads.query.driver import CROSS_ENTROPY, GIOU, L1, TESTING, TRAINING, QueryHead
from omnidet.models.parts.queries import QueryPredictions, QueryStates
from omnidet.nn import bias_for_probability, initialize
from omnidet.ops.relative_boxes import shift_boxes
from omnidet.registry import DENSE_HEADS

Cfg = Mapping[str, Any]


@DENSE_HEADS.register
class DeformableDETRHead(QueryHead):
    """A class, and a box relative to the query's reference, by layers of each decoder layer (arXiv:2010.04159).

    Parameters: cls_branches, reg_branches; lists over decoder layers, and one more for the encoder of two stages.

    Args:
        num_classes: K.
        embed_dims: C.
        num_reg_fcs: linear layers before the one that gives boxes.
        share_pred_layer: use the same layers everywhere.
        num_pred_layer: how many layers predict.
        as_two_stage: the encoder predicts too; it then tells objects from background alone.
        init_cfg: how to initialise; by default scores begin near 0.01 and boxes at their references.
        The others: see `QueryHead`.
    """

    class_agnostic_proposals = True

    def __init__(self, num_classes: int, embed_dims: int = 256, num_reg_fcs: int = 2, sync_cls_avg_factor: bool = False,
                 loss_cls: Cfg = CROSS_ENTROPY, loss_bbox: Cfg = L1, loss_iou: Cfg = GIOU,
                 train_cfg: Cfg | None = TRAINING, test_cfg: Cfg | None = TESTING,
                 share_pred_layer: bool = False, num_pred_layer: int = 6, as_two_stage: bool = False,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(num_classes, sync_cls_avg_factor, loss_cls, loss_bbox, loss_iou, train_cfg, test_cfg)
        self.embed_dims = embed_dims
        self.cls_branches, self.reg_branches = prediction_layers(
            embed_dims, self.cls_channels, num_reg_fcs, num_pred_layer, share_pred_layer, as_two_stage)
        initialize(self, init_cfg)

    def forward(self, states: QueryStates, index: int) -> QueryPredictions:
        index = index % len(states.hidden)
        x = states.hidden[index]
        boxes = shift_boxes(states.references[index], self.reg_branches[index](x))
        return QueryPredictions(self.cls_branches[index](x), boxes)


@DENSE_HEADS.register
class DINOHead(DeformableDETRHead):
    """As `DeformableDETRHead`, with an encoder that tells the classes apart (arXiv:2203.03605).

    Parameters and arguments: those of `DeformableDETRHead`.
    """

    class_agnostic_proposals = False


def prediction_layers(embed_dims: int, cls_channels: int, num_reg_fcs: int, count: int, share: bool, as_two_stage: bool
                      ) -> tuple[nn.ModuleList, nn.ModuleList]:
    """`cls_branches` and `reg_branches` of a head, with their beginning."""
    cls = nn.Linear(embed_dims, cls_channels)
    nn.init.constant_(cls.bias, bias_for_probability(0.01))
    hidden = [layer for _ in range(num_reg_fcs) for layer in (nn.Linear(embed_dims, embed_dims), nn.ReLU())]
    reg = nn.Sequential(*hidden, nn.Linear(embed_dims, 4))
    nn.init.zeros_(reg[-1].weight)
    nn.init.zeros_(reg[-1].bias)

    def branches(layer: nn.Module) -> nn.ModuleList:
        return nn.ModuleList(layer if share else copy.deepcopy(layer) for _ in range(count))
    cls_branches, reg_branches = branches(cls), branches(reg)
    if not as_two_stage:    # the first boxes come from points: small ones
        nn.init.constant_(reg_branches[0][-1].bias[2:], -2.0)
    return cls_branches, reg_branches
