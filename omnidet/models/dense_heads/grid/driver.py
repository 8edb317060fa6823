"""The one driver of grid heads: from feature maps to losses and to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.parts.postprocess import GridPostprocess
from omnidet.models.parts.priors.points import inside_image
from omnidet.models.parts.proposals import as_proposals
from omnidet.ops.distributed import reduce_mean
from omnidet.registry import ASSIGNERS, CODERS, PRIORS, SAMPLERS, check_arguments
from omnidet.structures import Assignment, ImageMeta, Predictions, Priors, Proposals, Result, Targets

Cfg = Mapping[str, Any]
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class GridTraining:
    """A grid head's `train_cfg`.

    Attributes:
        assigner: which object each prior answers for.
        sampler: which priors the loss sees; all where None.
        allowed_border: by how many pixels an anchor may leave the image; negative allows any.
        pos_weight: weight of a positive prior's class loss; 1 where not positive.
        debug: accepted as configs carry it.
    """

    assigner: Cfg
    sampler: Cfg | None = None
    allowed_border: float = -1
    pos_weight: float = -1
    debug: bool = False


class DenseHead(nn.Module):
    """A grid head: a row of choices, and the two walks that every such head takes.

    A subclass owns the layers and says three things: `forward(feats)` gives (B, N, ...) tensors of all levels, with the
    class logits as `cls`, what becomes boxes as `reg`, and as `quality` (B, N, 1), where there is one, the logit that
    candidates are ranked by beside their score; `losses(...)` gives the losses of assigned priors; `num_classes` is K.
    Where a score is more than the sigmoid of its logit it overrides `scores` and perhaps `quality`, where a box is more
    than the coder's `decode`, and `predictions` where its assigner wants to see more than logits and boxes.

    Args:
        anchor_generator: the priors.
        bbox_coder: between boxes and what is regressed.
        train_cfg: the fields of `training_fields`; None for a head that will not train.
        test_cfg: the fields of `testing_fields`; None for a head that will not predict.
    """

    num_classes: int
    training_fields: type[GridTraining] = GridTraining
    """What a `train_cfg` may hold."""
    testing_fields: type[GridPostprocess] = GridPostprocess
    """What a `test_cfg` may hold."""
    use_sigmoid_cls = True
    """Whether each class has a sigmoid by itself; else there are K + 1 logits under a softmax, background the last."""

    def __init__(self, anchor_generator: Cfg, bbox_coder: Cfg, train_cfg: Cfg | None, test_cfg: Cfg | None) -> None:
        super().__init__()
        self.prior_generator = PRIORS.build(anchor_generator)
        self.coder = CODERS.build(bbox_coder)
        if train_cfg is not None:
            check_arguments(self.training_fields, train_cfg)
            self.training_cfg = self.training_fields(**train_cfg)
            self.assigner = ASSIGNERS.build(self.training_cfg.assigner)
            self.sampler = SAMPLERS.build(self.training_cfg.sampler or {'type': 'PseudoSampler'})
        if test_cfg is not None:
            check_arguments(self.testing_fields, test_cfg)
            self.postprocess = self.testing_fields(**test_cfg)

    def scores(self, out: Outputs) -> Tensor:
        """(B, N, K) in 0..1."""
        return out['cls'].sigmoid() if self.use_sigmoid_cls else out['cls'].softmax(-1)[..., :-1]

    def quality(self, out: Outputs) -> Tensor | None:
        """(B, N) in 0..1, a factor of the candidates' scores once they are chosen; None where there is none."""
        return out['quality'][..., 0].sigmoid() if 'quality' in out else None

    def decode(self, priors: Priors, reg: Tensor, max_shape: Tensor | None = None) -> Tensor:
        """(..., N, R) of `forward`'s `reg` -> (..., N, 4) boxes in pixels, clipped to `max_shape` (..., 2), (h, w)."""
        boxes: Tensor = self.coder.decode(priors, reg, max_shape)
        return boxes

    def predictions(self, out: Outputs, priors: Priors) -> Predictions:
        """What an assigner with `needs_predictions` gets to see."""
        return Predictions(self.decode(priors, out['reg']), out['cls'])

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """{name: scalar}.

        Args:
            out: what `forward` gave, in float32.
            priors: N priors.
            assignment: which object each prior answers for.
            gt_boxes: (B, N, 4), the object's box at each prior; it means something where the prior is positive.
            gt_labels: (B, N), likewise.
        """
        raise NotImplementedError(f'{type(self).__name__} does not define losses()')

    def priors(self, feats: Sequence[Tensor]) -> Priors:
        """The priors at the cells of `feats`."""
        return self.prior_generator([(f.shape[-2], f.shape[-1]) for f in feats], feats[0].device)

    def loss(self, feats: Sequence[Tensor], targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch: {name: scalar}.

        Args:
            feats: L maps (B, C, H_l, W_l).
            targets: the ground truth of the B images.
        """
        return self.loss_of(self(feats), self.priors(feats), targets)

    def loss_of(self, out: Outputs, priors: Priors, targets: Targets) -> dict[str, Tensor]:
        """The losses of what `forward` gave; in float32, whatever the layers compute in."""
        return self.losses_and_assignment(out, priors, targets)[0]

    def losses_and_assignment(self, out: Outputs, priors: Priors, targets: Targets
                              ) -> tuple[dict[str, Tensor], Assignment]:
        """The losses of what `forward` gave, and which object each prior answers for, for losses of more than boxes."""
        out = {name: value.float() for name, value in out.items()}
        with torch.autocast(out['cls'].device.type, enabled=False):
            inside = inside_image(priors, targets.sizes, self.training_cfg.allowed_border)
            preds = self.predictions({name: value.detach() for name, value in out.items()}, priors) \
                if self.assigner.needs_predictions else None
            assignment = self.sampler(self.assigner(priors, targets, inside, preds))
            gt_boxes = targets.boxes.gather(1, assignment.gt[..., None].expand(-1, -1, 4))    # (B, N, 4)
            gt_labels = targets.labels.gather(1, assignment.gt)    # (B, N)
            return self.losses(out, priors, assignment, gt_boxes, gt_labels), assignment

    def predict(self, feats: Sequence[Tensor], metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image; see `GridPostprocess`."""
        return self.detect(self(feats), self.priors(feats), metas, rescale, self.postprocess)

    def detect(self, out: Outputs, priors: Priors, metas: Sequence[ImageMeta], rescale: bool,
               options: GridPostprocess) -> list[Result]:
        """The detections in what `forward` gave."""
        return [result for result, _ in self.detect_with_priors(out, priors, metas, rescale, options)]

    def detect_with_priors(self, out: Outputs, priors: Priors, metas: Sequence[ImageMeta], rescale: bool,
                           options: GridPostprocess) -> list[tuple[Result, Tensor]]:
        """The detections in what `forward` gave, and the prior (R,) int64 that each came from."""
        def decode(index: Tensor, deltas: Tensor, shape: Tensor) -> Tensor:
            chosen = Priors(priors.boxes[index], priors.strides[index], ())
            return self.decode(chosen, deltas, shape)
        return options.with_priors(self.scores(out), out['reg'], priors.level_sizes, decode, metas, rescale,
                                   self.quality(out))

    def propose(self, feats: Sequence[Tensor], metas: Sequence[ImageMeta],
                proposal_cfg: Cfg | None = None) -> Proposals:
        """Where a second stage should look.

        Args:
            feats: L maps (B, C, H_l, W_l).
            metas: B, for the sizes to clip to.
            proposal_cfg: the fields of `GridPostprocess`; the head's `test_cfg` where None.
        """
        return self.proposals(self(feats), self.priors(feats), metas, self._options(proposal_cfg))

    def loss_and_propose(self, feats: Sequence[Tensor], targets: Targets,
                         proposal_cfg: Cfg | None = None) -> tuple[dict[str, Tensor], Proposals]:
        """`loss` and `propose` from one forward pass; the proposals carry no gradient."""
        out, priors = self(feats), self.priors(feats)
        losses = self.loss_of(out, priors, targets)
        metas = [ImageMeta((h, w), (h, w)) for h, w in targets.sizes.tolist()]
        detached = {name: value.detach() for name, value in out.items()}
        return losses, self.proposals(detached, priors, metas, self._options(proposal_cfg))

    @torch.no_grad()
    def proposals(self, out: Outputs, priors: Priors, metas: Sequence[ImageMeta],
                  options: GridPostprocess) -> Proposals:
        """The detections in what `forward` gave, as proposals in pixels of the batch."""
        return as_proposals(self.detect(out, priors, metas, False, options))

    def _options(self, proposal_cfg: Cfg | None) -> GridPostprocess:
        if proposal_cfg is None:
            return self.postprocess
        check_arguments(GridPostprocess, proposal_cfg)
        return GridPostprocess(**proposal_cfg)


def anchor_losses(head: Any, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
                  gt_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Class loss on all sampled priors and box loss on the positive ones, both over how many were sampled.

    Args:
        head: has `num_classes`, `coder`, `sampler`, `training_cfg`, `loss_cls`, `loss_bbox` and `reg_decoded_bbox`.
        out, priors, assignment, gt_boxes, gt_labels: see `DenseHead.losses`.
    """
    positive = assignment.positive
    total = sampled_count(assignment, with_negatives=head.sampler.num is not None)
    labels = torch.where(positive, gt_labels, head.num_classes)
    cls = head.loss_cls(out['cls'], labels, class_weight(assignment, head.training_cfg.pos_weight),
                        avg_factor=total)
    pred, target = box_terms(head, out, priors, positive, gt_boxes)
    return cls, head.loss_bbox(pred, target, positive.float(), avg_factor=total)


def box_terms(head: Any, out: Outputs, priors: Priors, positive: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What a box loss compares, (B, N, R) each: deltas, or boxes where the head says `reg_decoded_bbox`.

    Where there is no object, a prediction is held against itself, or a prior against itself: both are finite.
    """
    if head.reg_decoded_bbox:
        pred = head.decode(priors, out['reg'])
        return pred, torch.where(positive[..., None], gt_boxes, pred.detach())
    return out['reg'], head.coder.encode(priors, torch.where(positive[..., None], gt_boxes, priors.boxes))


def class_weight(assignment: Assignment, pos_weight: float) -> Tensor:
    """(B, N): 0 for what is ignored, 1 for the others; positive priors have `pos_weight` where that is positive."""
    weight = (~assignment.ignored).float()
    return torch.where(assignment.positive, pos_weight, weight) if pos_weight > 0 else weight


def sampled_count(assignment: Assignment, with_negatives: bool) -> Tensor:
    """How many priors of the batch are positive (or either, `with_negatives`); each image counts for one of a kind."""
    count = assignment.positive.sum(1).clamp(min=1).sum()
    if with_negatives:
        count = count + (~(assignment.positive | assignment.ignored)).sum(1).clamp(min=1).sum()
    return reduce_mean(count.float())


def matched_boxes(boxes: Tensor, gt_boxes: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted boxes (B, N, 4) and what a box loss holds them against.

    Where there is no object a box is held against itself: a prediction gone wild there cannot spoil the gradient.
    """
    return boxes, torch.where(positive[..., None], gt_boxes, boxes.detach())
