"""The few shapes of data that the rooms of the house hand to each other.

Letters: B images, G ground truths of an image (padded to the longest), N priors, K detections, P proposals.
Boxes are xyxy in absolute pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omnidet.masks import InstanceMasks

IGNORE_LABEL = 255
"""The value of a semantic map's pixels that belong to no class."""


@dataclass
class ImageMeta:
    """Where an image came from and what the pipeline did to it; what it takes to bring boxes back.

    Attributes:
        img_shape: (h, w) of the image inside the batch, before the batch's own padding.
        ori_shape: (h, w) of the image in its file.
        scale_factor: (width, height) factors from the file to the batch.
        pad_shape: (h, w) after padding; that of the batch once it is collated.
        flip_direction: 'horizontal', 'vertical', 'diagonal', or None where the image is not flipped.
        proposals: (P, 4) boxes that a model is handed (Fast R-CNN).
        offset: (x, y) in pixels where the picture begins inside the image, which is padded around it (CenterNet).
    """

    img_shape: tuple[int, int]
    ori_shape: tuple[int, int]
    scale_factor: tuple[float, float] = (1.0, 1.0)
    pad_shape: tuple[int, int] | None = None
    img_id: int | str | None = None
    img_path: str | None = None
    flip_direction: str | None = None
    proposals: Tensor | None = None
    offset: tuple[int, int] = (0, 0)


@dataclass
class Targets:
    """The ground truth of a batch, padded to one number of boxes per image.

    Attributes:
        boxes: (B, G, 4) float, xyxy in pixels of the padded batch; zeros where there is none.
        labels: (B, G) int64; 0 where there is none.
        valid: (B, G) bool, True for a real box that is not ignored.
        ignore: (B, G) bool, True for a real box that is neither object nor background (a crowd).
        sizes: (B, 2) int64, (h, w) of each image before the batch's padding.
        masks: (B, G) masks in images of (H, W), or None.
        sem_seg: (B, H, W) int64 with 255 where no class is given, or None.
        proposals: (B, P, 4) float, or None.
        proposals_valid: (B, P) bool, True for a real proposal; None without proposals.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    ignore: Tensor
    sizes: Tensor
    masks: InstanceMasks | None = None
    sem_seg: Tensor | None = None
    proposals: Tensor | None = None
    proposals_valid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, images: slice) -> Targets:
        """The targets of some images, as views."""
        return _map(self, lambda t: t[images])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Targets:
        return _map(self, lambda t: t.to(device, non_blocking=non_blocking))

    @staticmethod
    def collate(items: Sequence[Mapping[str, Any]], shape: tuple[int, int]) -> Targets:
        """Pad the ground truths of several images into one.

        Args:
            items: for each image a dict with boxes (G, 4) and labels (G,), and as needed ignore (G,) bool,
                masks (`InstanceMasks`, or (G, h, w) of zero and nonzero), sem_seg (h, w) with 255 ignored, proposals
                (P, 4), and size, the (h, w) of the image before padding (`shape` where absent). Tensors or arrays.
            shape: (H, W) of the batch; padding is at the right and at the bottom.
        """
        B, (H, W) = len(items), shape
        G = max([2, *(len(item['boxes']) for item in items)])    # at least 2: a compiled step meets no special sizes
        out = Targets(boxes=torch.zeros(B, G, 4), labels=torch.zeros(B, G, dtype=torch.long),
                      valid=torch.zeros(B, G, dtype=torch.bool), ignore=torch.zeros(B, G, dtype=torch.bool),
                      sizes=torch.tensor([tuple(item.get('size', shape)) for item in items]).reshape(B, 2))
        if any(item.get('masks') is not None for item in items):
            out.masks = InstanceMasks.stack([_instance_masks(item.get('masks')) for item in items], G, shape)
        if any(item.get('sem_seg') is not None for item in items):
            out.sem_seg = torch.full((B, H, W), IGNORE_LABEL)
        if any(item.get('proposals') is not None for item in items):
            P = max([1, *(len(item['proposals']) for item in items if item.get('proposals') is not None)])
            out.proposals, out.proposals_valid = torch.zeros(B, P, 4), torch.zeros(B, P, dtype=torch.bool)
        for i, item in enumerate(items):
            n = len(item['boxes'])
            ignore = torch.as_tensor(item['ignore'], dtype=torch.bool) if item.get('ignore') is not None \
                else torch.zeros(n, dtype=torch.bool)
            out.boxes[i, :n] = torch.as_tensor(item['boxes'], dtype=torch.float32).reshape(n, 4)
            out.labels[i, :n] = torch.as_tensor(item['labels'], dtype=torch.long)
            out.ignore[i, :n] = ignore
            out.valid[i, :n] = ~ignore
            if out.sem_seg is not None and item.get('sem_seg') is not None:
                sem_seg = torch.as_tensor(item['sem_seg'])
                out.sem_seg[i, :sem_seg.shape[0], :sem_seg.shape[1]] = sem_seg.long()
            if out.proposals is not None and out.proposals_valid is not None and item.get('proposals') is not None:
                p = len(item['proposals'])
                out.proposals[i, :p] = torch.as_tensor(item['proposals'], dtype=torch.float32)
                out.proposals_valid[i, :p] = True
        return out


class Priors(NamedTuple):
    """The anchors or points of all levels, one after another.

    Attributes:
        boxes: (N, 4) xyxy in pixels; a point is a box without extent. (B, R, 4) where proposals are a second stage's.
        strides: (N,) pixels between neighbours on the prior's level; (0,) for proposals.
        level_sizes: how many priors each level has; they add up to N.
    """

    boxes: Tensor
    strides: Tensor
    level_sizes: tuple[int, ...]


class Proposals(NamedTuple):
    """Where a first stage takes objects to be, without gradient; what a second stage looks at.

    Attributes:
        boxes: (B, R, 4) xyxy in pixels of the batch; zeros where there is none.
        valid: (B, R) bool, True for a real proposal.
        scores: (B, R).
    """

    boxes: Tensor
    valid: Tensor
    scores: Tensor


class Predictions(NamedTuple):
    """What a head predicts at the priors, without gradient, for an assigner that looks at it.

    Attributes:
        boxes: (B, N, 4) xyxy in pixels.
        logits: (B, N, K) before the sigmoid.
        scores: (B, N, K) in 0..1, where they are more than the sigmoid of the logits; else None.
    """

    boxes: Tensor
    logits: Tensor
    scores: Tensor | None = None


class Assignment(NamedTuple):
    """Which ground truth each prior answers for.

    Attributes:
        gt: (B, N) int64, always a safe index into G; it means something where `positive`.
        positive: (B, N) bool, True where the prior answers for `gt`.
        ignored: (B, N) bool, True where the prior is neither positive nor background.
        score: (B, N) float, how good the match is (an IoU); 0 where there is none.
    """

    gt: Tensor
    positive: Tensor
    ignored: Tensor
    score: Tensor


class Result:
    """What a model found in one image.

    Args:
        masks: (K, H, W) bool, or the same as `InstanceMasks`; the others as the attributes.

    Attributes:
        boxes: (K, 4) float, xyxy in pixels of the image's file (of the batch with `rescale=False`), best first.
        scores: (K,) float in 0..1.
        labels: (K,) int64, indices into the data set's classes.
        instance_masks: (K,) masks as windows, or None.
        sem_seg: (H, W) int64 classes, or None.
        panoptic: (H, W) int64, class + 1000 * instance; None where the model does not give it.
    """

    def __init__(self, boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor | InstanceMasks | None = None,
                 sem_seg: Tensor | None = None, panoptic: Tensor | None = None) -> None:
        self.boxes = boxes
        self.scores = scores
        self.labels = labels
        self.instance_masks = _instance_masks(masks)
        self.sem_seg = sem_seg
        self.panoptic = panoptic

    @property
    def masks(self) -> Tensor | None:
        """(K, H, W) bool, or None; made anew at every reading, K whole images."""
        return None if self.instance_masks is None else self.instance_masks.dense()

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        more = [name for name in ('instance_masks', 'sem_seg', 'panoptic') if getattr(self, name) is not None]
        return f'Result({len(self)} objects{"".join(", " + name for name in more)})'

    def __getitem__(self, index: Any) -> Result:
        """The detections that `index` picks: a slice, a bool mask, or indices."""
        masks = self.instance_masks
        return self.replace(boxes=self.boxes[index], scores=self.scores[index], labels=self.labels[index],
                            masks=None if masks is None else masks[index])

    def replace(self, **changes: Any) -> Result:
        """A copy with other values for some of the constructor's arguments."""
        return Result(**{'boxes': self.boxes, 'scores': self.scores, 'labels': self.labels,
                         'masks': self.instance_masks, 'sem_seg': self.sem_seg, 'panoptic': self.panoptic, **changes})

    def to(self, device: torch.device | str) -> Result:
        more = {'masks': self.instance_masks, 'sem_seg': self.sem_seg, 'panoptic': self.panoptic}
        return Result(self.boxes.to(device), self.scores.to(device), self.labels.to(device),
                      **{k: None if x is None else x.to(device) for k, x in more.items()})    # type: ignore[arg-type]

    def cpu(self) -> Result:
        return self.to('cpu')


@dataclass
class Sample:
    """One image as a pipeline hands it over.

    Attributes:
        image: (3, h, w) uint8, channels in the order of the pipeline (BGR as OpenCV decodes).
        target: an item of `Targets.collate`, without `size`; None where there is no annotation to train on.
        meta: what happened to the image.
    """

    image: Tensor
    target: dict[str, Any] | None
    meta: ImageMeta


@dataclass
class Batch:
    """Several samples, padded at the right and bottom to one size.

    Attributes:
        images: (B, 3, H, W) uint8 as loaded; float and normalised after the preprocessor.
        metas: one per image; `img_shape` is the part of the image that is not the batch's padding.
        targets: the ground truth, or None.
    """

    images: Tensor
    metas: list[ImageMeta]
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.metas)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        return dataclasses.replace(
            self, images=self.images.to(device, non_blocking=non_blocking),
            targets=None if self.targets is None else self.targets.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Called by torch's loader."""
        return dataclasses.replace(self, images=self.images.pin_memory(), targets=None if self.targets is None
                                   else _map(self.targets, lambda t: t.pin_memory()))


def _map(value: Any, f: Any) -> Any:
    """`value` with `f` applied to each of its fields that are tensors or masks."""
    fields = {x.name: getattr(value, x.name) for x in dataclasses.fields(value)}
    return dataclasses.replace(value, **{k: f(v) for k, v in fields.items() if isinstance(v, (Tensor, InstanceMasks))})


def _instance_masks(masks: Any) -> InstanceMasks | None:
    return masks if masks is None or isinstance(masks, InstanceMasks) else InstanceMasks.from_dense(masks)
