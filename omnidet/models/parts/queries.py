"""What the parts of query heads hand to each other: sets of predictions, and the objects they are matched to.

Letters: B images, Q queries, G objects (padded), K classes, P points of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from omnidet.ops.relative_boxes import image_scale, xyxy_to_cxcywh
from omnidet.structures import Assignment, Targets


class QueryTargets(NamedTuple):
    """The objects of a batch, as queries predict them.

    Attributes:
        labels: (B, G) int64.
        valid: (B, G) bool, True for a real object; only these are matched.
        boxes: (B, G, 4), cxcywh in 0..1 of the image without its padding; None where boxes play no part.
        scale: (B, 1, 4), (w, h, w, h) of each image in pixels.
        masks: (B, G, P) float in 0..1, the objects' masks at P points; None where masks play no part.
    """

    labels: Tensor
    valid: Tensor
    boxes: Tensor | None = None
    scale: Tensor | None = None
    masks: Tensor | None = None


class QueryPredictions(NamedTuple):
    """What one layer predicts for Q queries of each image.

    Attributes:
        logits: (B, Q, K), or (B, Q, K + 1) with 'no object' last where a softmax follows.
        boxes: (B, Q, 4), cxcywh in 0..1 of the image without its padding; or None.
        masks: (B, Q, P) logits at the points of `QueryTargets.masks`; or None.
        kernels: (B, Q, C), whose products with the features of pixels are the logits of masks; or None.
    """

    logits: Tensor
    boxes: Tensor | None = None
    masks: Tensor | None = None
    kernels: Tensor | None = None


class QueryLayer(NamedTuple):
    """One set of predictions that has losses.

    Attributes:
        predictions: what is predicted.
        prefix: what the names of its losses begin with: '' for the last layer, 'd0.', 'enc_', 'd0.dn_', ...
        assignment: which object each query answers for, (B, Q), where that is known; None to match.
        targets: the objects, where they are not those of the other layers.
    """

    predictions: QueryPredictions
    prefix: str = ''
    assignment: Assignment | None = None
    targets: QueryTargets | None = None


def query_targets(targets: Targets) -> QueryTargets:
    """The labels and boxes of a batch in parts of each image's size."""
    scale = image_scale(targets.sizes)
    return QueryTargets(targets.labels, targets.valid, xyxy_to_cxcywh(targets.boxes.float() / scale), scale)


class Denoising(NamedTuple):
    """Queries made from noisy objects, which stand before the others in training (arXiv:2203.01305).

    Attributes:
        queries: (B, Q, C), the embedded noisy labels; 0 for a padded object.
        boxes: (B, Q, 4), logits of the noisy cxcywh; 0 for a padded object.
        attn_mask: (Q + N, Q + N) bool, True where one of the Q and N others may not look at another.
        assignment: (B, Q), which object each is to find; ignored where no image has such an object.
    """

    queries: Tensor
    boxes: Tensor
    attn_mask: Tensor
    assignment: Assignment


class QueryStates(NamedTuple):
    """What a transformer hands to a query head.

    Attributes:
        hidden: (B, Q, C) after each decoder layer.
        references: (B, Q, 2 or 4) in 0..1, what each layer's boxes are regressed from; None where from nothing.
        proposals: what the encoder predicts; None where it does not.
        denoising: where the first of the Q queries are noisy objects.
    """

    hidden: Sequence[Tensor]
    references: Sequence[Tensor] | None = None
    proposals: QueryPredictions | None = None
    denoising: Denoising | None = None
