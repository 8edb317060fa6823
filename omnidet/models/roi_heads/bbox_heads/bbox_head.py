"""What box heads share, and the plainest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.roi_heads.sampling import SampledRoIs
from omnidet.nn import initialize
from omnidet.nn.linear import build_linear
from omnidet.registry import CODERS, LOSSES, ROI_HEADS
from omnidet.structures import Priors

Cfg = Mapping[str, Any]
Outputs = dict[str, Tensor]

DELTAS: Cfg = {'type': 'DeltaXYWHBBoxCoder', 'clip_border': True, 'target_means': [0., 0., 0., 0.],
               'target_stds': [0.1, 0.1, 0.2, 0.2]}
SOFTMAX: Cfg = {'type': 'CrossEntropyLoss', 'use_sigmoid': False, 'loss_weight': 1.0}
SMOOTH_L1: Cfg = {'type': 'SmoothL1Loss', 'beta': 1.0, 'loss_weight': 1.0}
LINEAR: Cfg = {'type': 'Linear'}
PREDICTORS: tuple[Cfg, ...] = ({'type': 'Normal', 'std': 0.01, 'override': {'name': 'fc_cls'}},
                               {'type': 'Normal', 'std': 0.001, 'override': {'name': 'fc_reg'}})


class RoIBoxHead(nn.Module):
    """Classes and boxes of RoIs: the losses, scores and boxes of whatever a subclass's layers predict.

    A subclass owns the layers; its `forward((M, C, h, w))` gives `cls` (M, K + 1), logits with the background last
    (or as many as a loss with `custom_cls_channels` asks for), and `reg` (M, 4) or (M, K * 4). Rows are the RoIs of all
    images, one after another. A head that predicts boxes in another way overrides `box_losses` and `decode`.

    Args:
        num_classes: K.
        bbox_coder: between boxes and what is regressed.
        reg_class_agnostic: regress one box for all classes.
        reg_decoded_bbox: hold decoded boxes against the objects', not what is regressed.
        loss_cls, loss_bbox: the losses.
        with_cls, with_reg: whether there are classes and boxes to predict.
    """

    def __init__(self, num_classes: int, bbox_coder: Cfg, reg_class_agnostic: bool, reg_decoded_bbox: bool,
                 loss_cls: Cfg, loss_bbox: Cfg, with_cls: bool = True, with_reg: bool = True) -> None:
        super().__init__()
        self.num_classes, self.with_cls, self.with_reg = num_classes, with_cls, with_reg
        self.reg_class_agnostic, self.reg_decoded_bbox = reg_class_agnostic, reg_decoded_bbox
        self.coder = CODERS.build(bbox_coder)
        self.loss_cls, self.loss_bbox = LOSSES.build(loss_cls), LOSSES.build(loss_bbox)
        self.custom_classes = bool(getattr(self.loss_cls, 'custom_cls_channels', False))
        """The loss decides how many logits there are and what makes them scores (Seesaw loss, arXiv:2008.10032)."""

    @property
    def cls_channels(self) -> int:
        """Logits of a RoI."""
        return self.loss_cls.get_cls_channels(self.num_classes) if self.custom_classes else self.num_classes + 1

    @property
    def reg_channels(self) -> int:
        """Regressed numbers of a RoI."""
        return self.coder.encode_size * (1 if self.reg_class_agnostic else self.num_classes)

    def losses(self, out: Outputs, rois: SampledRoIs, pos_weight: float = -1) -> dict[str, Tensor]:
        """{name: scalar}: `loss_cls`, `acc` in percent, `loss_bbox`.

        Args:
            out: what `forward` gave.
            rois: its M RoIs, flattened.
            pos_weight: weight of a positive RoI's class loss; 1 where not positive.
        """
        return {**(self.class_losses(out['cls'].float(), rois, pos_weight) if self.with_cls else {}),
                **(self.box_losses(out, rois) if self.with_reg else {})}

    def class_losses(self, logits: Tensor, rois: SampledRoIs, pos_weight: float) -> dict[str, Tensor]:
        """`loss_cls` over the sampled RoIs and `acc`, the share of them in percent whose best class is right."""
        weight = rois.sampled.to(logits.dtype)
        if pos_weight > 0:
            weight = torch.where(rois.positive, pos_weight * weight, weight)
        count = rois.sampled.sum().clamp(min=1)
        loss = self.loss_cls(logits, rois.labels, weight, avg_factor=count)
        losses = dict(loss) if isinstance(loss, Mapping) else {'loss_cls': loss}
        if getattr(self.loss_cls, 'custom_accuracy', False):
            return {**losses, **self.loss_cls.get_accuracy(logits, rois.labels)}
        right = (logits.argmax(-1) == rois.labels) & rois.sampled
        return {**losses, 'acc': 100 * right.sum() / count}

    def box_losses(self, out: Outputs, rois: SampledRoIs) -> dict[str, Tensor]:
        """`loss_bbox`: summed over the positive RoIs and divided by the number of the sampled ones."""
        if self.reg_decoded_bbox:
            pred, target = self.decode(rois.boxes, out, rois.labels).float(), rois.gt_boxes
        else:
            pred = self._own(out['reg'], rois.labels).float()
            target = self.coder.encode(_priors(rois.boxes), rois.gt_boxes)
        # Where there is no object, hold the prediction against itself: what is wild there cannot spoil the gradient.
        target = torch.where(rois.positive[:, None], target, pred.detach())
        weight = rois.positive.to(pred.dtype)[:, None].expand_as(pred)
        return {'loss_bbox': self.loss_bbox(pred, target, weight, avg_factor=rois.sampled.sum().clamp(min=1))}

    def hardness(self, out: Outputs, labels: Tensor) -> Tensor:
        """(M,) class loss of every RoI by itself, for samplers that take the hardest."""
        loss = self.loss_cls(out['cls'].float(), labels, reduction_override='none')
        return loss if loss.ndim == 1 else loss.sum(-1)

    def scores(self, logits: Tensor) -> Tensor:
        """(M, K) in 0..1, without background: softmax whatever the loss, or what a custom loss makes of its logits."""
        logits = logits.float()
        every = self.loss_cls.get_activation(logits) if self.custom_classes else logits.softmax(-1)
        return every[:, :self.num_classes]

    def decode(self, boxes: Tensor, out: Outputs, labels: Tensor, rows: Tensor | None = None,
               max_shape: Tensor | None = None) -> Tensor:
        """The boxes that are predicted for some RoIs, each for one class.

        Args:
            boxes: (k, 4), the RoIs.
            out: what `forward` gave for M of them.
            labels: (k,) int64, the class that each box is wanted for; that of background means nothing.
            rows: (k,) int64, where the RoIs are in `out`; all M in order where None.
            max_shape: (k, 2) or (2,), the (h, w) to clip to.

        Returns:
            (k, 4) xyxy in pixels.
        """
        return self.coder.decode(_priors(boxes), self._own(out['reg'], labels, rows).float(), max_shape)

    def refine(self, boxes: Tensor, out: Outputs, labels: Tensor, max_shape: Tensor) -> Tensor:
        """(M, 4): each RoI's box for its class, for the best-scored one where it is background (K); clipped."""
        if not self.reg_class_agnostic:
            best = self.scores(out['cls']).argmax(-1)
            labels = torch.where(labels == self.num_classes, best, labels)
        return self.decode(boxes, out, labels, max_shape=max_shape)

    def _own(self, reg: Tensor, labels: Tensor, rows: Tensor | None = None) -> Tensor:
        """(M, 4) or (M, K * 4) -> (k, 4), what is regressed for each row's class."""
        if self.reg_class_agnostic:
            return reg if rows is None else reg[rows]
        rows = torch.arange(len(reg), device=reg.device) if rows is None else rows
        return reg.view(-1, self.num_classes, self.coder.encode_size)[rows, labels.clamp(max=self.num_classes - 1)]


def _priors(boxes: Tensor) -> Priors:
    return Priors(boxes, boxes.new_zeros(0), ())


@ROI_HEADS.register
class BBoxHead(RoIBoxHead):
    """Two linear layers on the features of a RoI.

    Parameters: fc_cls, fc_reg.

    Args:
        with_avg_pool: average the features over the RoI before the linear layers.
        with_cls, with_reg: whether there is a class and a box layer.
        roi_feat_size: side, or (h, w), of a RoI's features, in cells.
        in_channels: their channels.
        num_classes: K.
        bbox_coder: between boxes and what is regressed.
        predict_box_type: accepted as configs carry it; boxes are horizontal.
        reg_class_agnostic, reg_decoded_bbox: see `RoIBoxHead`.
        reg_predictor_cfg, cls_predictor_cfg: the kinds of the two layers.
        loss_cls, loss_bbox: the losses.
        init_cfg: initial values.
    """

    def __init__(self, with_avg_pool: bool = False, with_cls: bool = True, with_reg: bool = True,
                 roi_feat_size: int | Sequence[int] = 7, in_channels: int = 256, num_classes: int = 80,
                 bbox_coder: Cfg = DELTAS, predict_box_type: str = 'hbox', reg_class_agnostic: bool = False,
                 reg_decoded_bbox: bool = False, reg_predictor_cfg: Cfg = LINEAR, cls_predictor_cfg: Cfg = LINEAR,
                 loss_cls: Cfg = SOFTMAX, loss_bbox: Cfg = SMOOTH_L1,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(num_classes, bbox_coder, reg_class_agnostic, reg_decoded_bbox, loss_cls, loss_bbox, with_cls,
                         with_reg)
        self.with_avg_pool = with_avg_pool
        width = in_channels if with_avg_pool else in_channels * feature_area(roi_feat_size)
        if with_cls:
            self.fc_cls = build_linear(cls_predictor_cfg, width, self.cls_channels)
        if with_reg:
            self.fc_reg = build_linear(reg_predictor_cfg, width, self.reg_channels)
        initialize(self, init_cfg, default=predictor_init(with_cls, with_reg))

    def forward(self, x: Tensor) -> Outputs:
        """(M, C, h, w) features -> cls (M, K + 1) logits, reg (M, 4) or (M, K * 4)."""
        x = x.mean((-2, -1)) if self.with_avg_pool else x.flatten(1)
        return {**({'cls': self.fc_cls(x)} if self.with_cls else {}),
                **({'reg': self.fc_reg(x)} if self.with_reg else {})}


def feature_area(size: int | Sequence[int]) -> int:
    """Cells of a RoI's features, from their side or (h, w)."""
    h, w = (size, size) if isinstance(size, int) else size
    return h * w


def predictor_init(with_cls: bool, with_reg: bool) -> list[Cfg]:
    """The usual initial values of the last layers that there are."""
    return [entry for entry, there in zip(PREDICTORS, (with_cls, with_reg), strict=True) if there]
