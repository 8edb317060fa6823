"""From samples to a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from omnidet.structures import Batch, Sample, Targets


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples into one batch, padded with zeros at the right and bottom to the largest.

    Args:
        samples: at least one; images uint8, or float where a pipeline asks for it.

    Returns:
        images (B, 3, H, W), their metas with `pad_shape` set, and targets where every sample has one.
    """
    H = max(s.image.shape[1] for s in samples)
    W = max(s.image.shape[2] for s in samples)
    first = samples[0].image
    dtype = first.dtype if all(s.image.dtype == first.dtype for s in samples) else torch.float32
    images = torch.zeros(len(samples), first.shape[0], H, W, dtype=dtype)
    for image, sample in zip(images, samples, strict=True):
        image[:, :sample.image.shape[1], :sample.image.shape[2]] = sample.image
    metas = [dataclasses.replace(s.meta, pad_shape=(H, W)) for s in samples]
    if any(s.target is None for s in samples):
        return Batch(images, metas)
    items = [{**s.target, 'size': tuple(s.image.shape[1:])} for s in samples if s.target is not None]
    return Batch(images, metas, Targets.collate(items, (H, W)))


def collate_versions(samples: Sequence[Sequence[Sample]]) -> list[Batch]:
    """Put the versions of samples that TestTimeAug makes into one batch for each version."""
    return [collate(version) for version in zip(*samples, strict=True)]
