"""The masks that a batch's ground truth must have for a loss of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from omnidet.errors import ConfigError
from omnidet.masks import InstanceMasks
from omnidet.structures import Targets


def required_masks(targets: Targets, head: object) -> InstanceMasks:
    """The batch's (B, G) masks.

    Args:
        targets: the ground truth.
        head: who asks.

    Raises:
        ConfigError: the ground truth has none.
    """
    if targets.masks is None:
        raise ConfigError(f'{type(head).__name__} cannot train: the data has no masks; the pipeline needs '
                          "dict(type='LoadAnnotations', with_bbox=True, with_mask=True)")
    return targets.masks


def flat_instance(gt: Tensor, G: int) -> Tensor:
    """(B, P) objects of each image -> (B * P,) int64, the same objects among all B * G of the batch."""
    return (gt + G * torch.arange(len(gt), device=gt.device)[:, None]).flatten()
