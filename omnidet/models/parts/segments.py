"""The segments of a batch that mask classification is to find: things, and stuff classes, as one row of objects."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from omnidet.errors import DatasetError
from omnidet.masks import InstanceMasks
from omnidet.ops.points import sample_class, sample_classes, sample_masks
from omnidet.structures import Targets


@dataclass(frozen=True, eq=False)
class Segments:
    """The things of each image, padded to G, and after them a place for each of the S classes of stuff.

    No mask of a whole image is ever made; masks are read at points.

    Attributes:
        labels: (B, G + S) int64.
        valid: (B, G + S) bool, True for what is there.
        masks: (B, G) of the things.
        sem_seg: (B, H, W) int64, or None where S is 0.
        num_things: how many classes of things there are; those of stuff follow.
    """

    labels: Tensor
    valid: Tensor
    masks: InstanceMasks
    sem_seg: Tensor | None
    num_things: int

    @classmethod
    def of(cls, targets: Targets, num_things: int, num_stuff: int) -> Segments:
        """The segments of a batch; without a semantic map there is no stuff.

        Raises:
            DatasetError: there are no masks.
        """
        if targets.masks is None:
            raise DatasetError('the model learns masks, and the data have none: the training pipeline needs '
                               "dict(type='LoadPanopticAnnotations'), or dict(type='LoadAnnotations', with_bbox=True, "
                               'with_mask=True)')
        labels, valid = targets.labels, targets.valid & (targets.labels < num_things)
        if targets.sem_seg is None or not num_stuff:
            return cls(labels, valid, targets.masks, None, num_things)
        B, stuff = len(labels), targets.sem_seg.flatten(1) - num_things
        stuff = torch.where((stuff >= 0) & (stuff < num_stuff), stuff, num_stuff)
        present = torch.zeros(B, num_stuff + 1, dtype=torch.bool, device=labels.device).scatter_(1, stuff, True)
        classes = torch.arange(num_things, num_things + num_stuff, device=labels.device).expand(B, -1)
        return cls(torch.cat([labels, classes], 1), torch.cat([valid, present[:, :-1]], 1), targets.masks,
                   targets.sem_seg, num_things)

    @functools.cached_property
    def most(self) -> int:
        """The largest number of segments of an image, at least 1.

        Synchronises with the device, once: read it after the matching, which does so anyway.
        """
        return max(int(self.valid.sum(1).max()), 1)

    def at(self, points: Tensor) -> Tensor:
        """All masks at each image's points: (B, P, 2) -> (B, G + S, P) float32 in 0..1."""
        B, G = self.masks.starts.shape
        instance = torch.arange(B * G, device=points.device)
        things = sample_masks(self.masks, instance, points.repeat_interleave(G, 0)).view(B, G, points.shape[1])
        if self.sem_seg is None:
            return things
        return torch.cat([things, sample_classes(self.sem_seg, self.num_things, self.labels.shape[1] - G, points)], 1)

    def at_own(self, place: Tensor, points: Tensor) -> Tensor:
        """Some masks, each at points of its own.

        Args:
            place: (B, N) int64 into G + S.
            points: (B * N, P, 2).

        Returns:
            (B * N, P) float32 in 0..1.
        """
        B, G = self.masks.starts.shape
        image = torch.arange(B, device=points.device)[:, None]
        things = sample_masks(self.masks, (image * G + place.clamp(max=G - 1)).flatten(), points)
        if self.sem_seg is None:
            return things
        label = self.labels.gather(1, place).flatten()
        stuff = sample_class(self.sem_seg, image.expand_as(place).flatten(), label, points)
        return torch.where((place < G).view(-1, 1), things, stuff)
