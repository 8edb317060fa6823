"""The one driver of query heads: from the states of a transformer to losses and to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.parts.losses.focal import QualityFocalLoss
from omnidet.models.parts.queries import QueryLayer, QueryPredictions, QueryStates, QueryTargets, query_targets
from omnidet.models.parts.set_loss import set_loss
from omnidet.ops.boxes import aligned_iou, clip_boxes
from omnidet.ops.distributed import reduce_mean
from omnidet.ops.relative_boxes import cxcywh_to_xyxy, image_scale
from omnidet.registry import ASSIGNERS, LOSSES, check_arguments
from omnidet.structures import Assignment, ImageMeta, Result, Targets

Cfg = Mapping[str, Any]

CROSS_ENTROPY: Cfg = {'type': 'CrossEntropyLoss', 'bg_cls_weight': 0.1, 'use_sigmoid': False, 'loss_weight': 1.0,
                      'class_weight': 1.0}
L1: Cfg = {'type': 'L1Loss', 'loss_weight': 5.0}
GIOU: Cfg = {'type': 'GIoULoss', 'loss_weight': 2.0}
TRAINING: Cfg = {'assigner': {'type': 'HungarianAssigner', 'match_costs': [
    {'type': 'ClassificationCost', 'weight': 1.0}, {'type': 'BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
    {'type': 'IoUCost', 'iou_mode': 'giou', 'weight': 2.0}]}}
TESTING: Cfg = {'max_per_img': 100}


@dataclass(frozen=True)
class QueryTraining:
    """A query head's `train_cfg`.

    Attributes:
        assigner: which object each query answers for.
    """

    assigner: Cfg


@dataclass(frozen=True)
class QueryTesting:
    """A query head's `test_cfg`.

    Attributes:
        max_per_img: the most detections of an image.
    """

    max_per_img: int = 100


class QueryHead(nn.Module):
    """A query head: the layers that predict, and the two walks that every such head takes.

    A subclass owns the layers and says `forward(states, index)`: what one decoder layer predicts. Where the encoder
    finds objects without their classes, it sets `class_agnostic_proposals`.

    Args:
        num_classes: K.
        sync_cls_avg_factor: average the class loss's normaliser over all processes.
        loss_cls: the class loss. With a softmax, `class_weight` may be one number, and `bg_cls_weight` is then the
            weight of 'no object'.
        loss_bbox: the loss of cxcywh in 0..1.
        loss_iou: the loss of the overlap.
        train_cfg: the fields of `QueryTraining`; None for a head that will not train.
        test_cfg: the fields of `QueryTesting`; None for a head that will not predict.
    """

    class_agnostic_proposals = False

    def __init__(self, num_classes: int, sync_cls_avg_factor: bool, loss_cls: Cfg, loss_bbox: Cfg, loss_iou: Cfg,
                 train_cfg: Cfg | None, test_cfg: Cfg | None) -> None:
        super().__init__()
        self.num_classes, self.sync_cls_avg_factor = num_classes, sync_cls_avg_factor
        self.loss_cls, self.background_weight = _class_loss(loss_cls, num_classes)
        self.loss_bbox, self.loss_iou = LOSSES.build(loss_bbox), LOSSES.build(loss_iou)
        self.softmax = not getattr(self.loss_cls, 'use_sigmoid', False)
        self.cls_channels = num_classes + self.softmax
        if train_cfg is not None:
            check_arguments(QueryTraining, train_cfg)
            self.assigner = ASSIGNERS.build(QueryTraining(**train_cfg).assigner)
        if test_cfg is not None:
            check_arguments(QueryTesting, test_cfg)
            self.testing_cfg = QueryTesting(**test_cfg)

    def forward(self, states: QueryStates, index: int) -> QueryPredictions:
        """What decoder layer `index` predicts for the Q queries; -1 is the last layer."""
        raise NotImplementedError(f'{type(self).__name__} does not define forward()')

    def loss(self, states: QueryStates, targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch: {name: scalar}, of the last layer without a prefix."""
        truth = query_targets(targets)
        return set_loss(self.layers(states, truth), truth, self.assigner, self.losses)

    def layers(self, states: QueryStates, truth: QueryTargets) -> list[QueryLayer]:
        """Every set of predictions that has losses: of decoder layers, denoising queries and encoder."""
        out, noise, last = [], states.denoising, len(states.hidden) - 1
        for i in range(last + 1):
            pred, prefix = self(states, i), '' if i == last else f'd{i}.'
            if noise is not None:
                Q = noise.queries.shape[1]
                out.append(QueryLayer(_some(pred, slice(Q)), f'{prefix}dn_', noise.assignment))
                pred = _some(pred, slice(Q, None))
            out.append(QueryLayer(pred, prefix))
        if states.proposals is not None:
            objects = truth._replace(labels=torch.zeros_like(truth.labels)) if self.class_agnostic_proposals else truth
            out.append(QueryLayer(states.proposals, 'enc_', targets=objects))
        return out

    def losses(self, pred: QueryPredictions, assignment: Assignment, truth: QueryTargets) -> dict[str, Tensor]:
        """The losses of one layer's predictions, averaged over the matched queries of all processes.

        The class loss is averaged over matched queries and, weighted, the others.
        """
        positive, weight = assignment.positive, (~assignment.ignored).float()
        matched, others = positive.sum().float(), (weight * ~positive).sum()
        counted = matched + self.background_weight * others
        counted = (reduce_mean(counted) if self.sync_cls_avg_factor else counted).clamp(min=1)
        matched = reduce_mean(matched).clamp(min=1)

        boxes = pred.boxes.float()
        own = truth.boxes.gather(1, assignment.gt[..., None].expand(-1, -1, 4))
        own = torch.where(positive[..., None], own, boxes.detach())    # a query without an object against itself
        corners, own_corners = cxcywh_to_xyxy(boxes) * truth.scale, cxcywh_to_xyxy(own) * truth.scale
        label = torch.where(positive, truth.labels.gather(1, assignment.gt), self.num_classes)
        target: Any = label
        if isinstance(self.loss_cls, QualityFocalLoss):
            target = label, aligned_iou(corners.detach(), own_corners) * positive
        return {'loss_cls': self.loss_cls(pred.logits.float(), target, weight, avg_factor=counted),
                'loss_bbox': self.loss_bbox(boxes, own, positive[..., None].float(), avg_factor=matched),
                'loss_iou': self.loss_iou(corners, own_corners, positive.float(), avg_factor=matched)}

    def predict(self, states: QueryStates, metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The best detections of each image, by the last layer; there is no suppression of overlapping boxes."""
        pred = self(states, -1)
        logits, boxes = pred.logits.float(), pred.boxes.float()
        most, K = self.testing_cfg.max_per_img, self.num_classes
        if self.softmax:
            best, label = logits.softmax(-1)[..., :-1].max(-1)
            score, query = best.topk(min(most, best.shape[1]))
            label = label.gather(1, query)
        else:
            flat = logits.sigmoid().flatten(1)
            score, index = flat.topk(min(most, flat.shape[1]))
            query, label = torch.div(index, K, rounding_mode='floor'), index % K
        sizes = torch.tensor([m.img_shape for m in metas], device=boxes.device)
        boxes = boxes.gather(1, query[..., None].expand(-1, -1, 4))
        boxes = clip_boxes(cxcywh_to_xyxy(boxes) * image_scale(sizes), sizes[:, None])
        if rescale:
            boxes = boxes / boxes.new_tensor([(*m.scale_factor, *m.scale_factor) for m in metas])[:, None]
        return [Result(*image) for image in zip(boxes, score, label, strict=True)]


def _some(pred: QueryPredictions, queries: slice) -> QueryPredictions:
    return QueryPredictions(*(None if t is None else t[:, queries] for t in pred))


def _class_loss(cfg: Cfg, num_classes: int) -> tuple[nn.Module, float]:
    """The class loss, and what a query without an object counts for in its average."""
    options = dict(cfg)
    weight = options.get('class_weight')
    background = options.pop('bg_cls_weight', weight)
    if isinstance(weight, (int, float)):
        options['class_weight'] = [float(weight)] * num_classes + [float(background)]
        return LOSSES.build(options), float(background)
    return LOSSES.build(options), 0.0
