"""The one driver of grid heads: from feature maps to losses and to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.models.parts.postprocess import GridPostprocess
from omnidet.models.parts.priors.points import inside_image
from omnidet.registry import ASSIGNERS, CODERS, PRIORS, SAMPLERS, check_arguments
from omnidet.structures import Assignment, ImageMeta, Predictions, Priors, Result, Targets

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
    class logits as `cls` and what `coder` turns into boxes as `reg`; `losses(...)` gives the losses of assigned priors;
    `num_classes` is K. Where a score is more than the sigmoid of its logit, it overrides `scores`.

    Args:
        anchor_generator: the priors.
        bbox_coder: between boxes and what is regressed.
        train_cfg: the fields of `GridTraining`; None for a head that will not train.
        test_cfg: the fields of `GridPostprocess`; None for a head that will not predict.
    """

    num_classes: int

    def __init__(self, anchor_generator: Cfg, bbox_coder: Cfg, train_cfg: Cfg | None, test_cfg: Cfg | None) -> None:
        super().__init__()
        self.prior_generator = PRIORS.build(anchor_generator)
        self.coder = CODERS.build(bbox_coder)
        if train_cfg is not None:
            check_arguments(GridTraining, train_cfg)
            self.training_cfg = GridTraining(**train_cfg)
            self.assigner = ASSIGNERS.build(self.training_cfg.assigner)
            self.sampler = SAMPLERS.build(self.training_cfg.sampler or {'type': 'PseudoSampler'})
        if test_cfg is not None:
            check_arguments(GridPostprocess, test_cfg)
            self.postprocess = GridPostprocess(**test_cfg)

    def scores(self, out: Outputs) -> Tensor:
        """(B, N, K) in 0..1."""
        return out['cls'].sigmoid()

    def losses(self, out: Outputs, priors: Priors, assignment: Assignment, gt_boxes: Tensor,
               gt_labels: Tensor) -> dict[str, Tensor]:
        """{name: scalar}.

        Args:
            out: what `forward` gave.
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
        out, priors = self(feats), self.priors(feats)
        inside = inside_image(priors, targets.sizes, self.training_cfg.allowed_border)
        preds = Predictions(self.coder.decode(priors, out['reg'].detach()), out['cls'].detach()) \
            if self.assigner.needs_predictions else None
        assignment = self.sampler(self.assigner(priors, targets, inside, preds))
        gt_boxes = targets.boxes.gather(1, assignment.gt[..., None].expand(-1, -1, 4))    # (B, N, 4)
        gt_labels = targets.labels.gather(1, assignment.gt)    # (B, N)
        return self.losses(out, priors, assignment, gt_boxes, gt_labels)

    def predict(self, feats: Sequence[Tensor], metas: Sequence[ImageMeta], rescale: bool = True) -> list[Result]:
        """The detections of each image; see `GridPostprocess`."""
        out, priors = self(feats), self.priors(feats)

        def decode(index: Tensor, deltas: Tensor, shape: Tensor) -> Tensor:
            chosen = Priors(priors.boxes[index], priors.strides[index], ())
            return self.coder.decode(chosen, deltas, shape)
        return self.postprocess(self.scores(out), out['reg'], priors.level_sizes, decode, metas, rescale)


def flatten_levels(maps: Sequence[Tensor], channels: int) -> Tensor:
    """L maps (B, A * channels, H_l, W_l) -> (B, N, channels), levels one after another, row by row, then by anchor."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, channels) for m in maps], 1)
