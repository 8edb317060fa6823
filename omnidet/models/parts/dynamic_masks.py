"""Masks of instances by small networks that a head predicts for each of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omnidet.masks import InstanceMasks
from omnidet.ops.dynamic_conv import dynamic_mask_logits, dynamic_sizes
from omnidet.ops.masks import masks_at_stride
from omnidet.structures import Priors


@dataclass(frozen=True)
class DynamicMasks:
    """How a head's parameters at a prior become the mask of its object (CondInst, arXiv:2003.05664, section 3).

    Attributes:
        channels: of the mask features.
        width: channels between the layers of an instance's network.
        layers: how many it has.
        stride: pixels between the cells of the mask features.
        offset: where in its cell a pixel's position lies, as a part of the stride.
        reach: a position is how many strides of the prior's level, times this, it lies before the prior.
    """

    channels: int
    width: int
    layers: int
    stride: int
    offset: float
    reach: float = 8.0

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the layers."""
        return dynamic_sizes(self.channels, self.width, self.layers)

    @property
    def num_params(self) -> int:
        """Numbers that an instance's network has."""
        return sum((i + 1) * o for i, o in self.sizes)

    def __call__(self, feats: Tensor, params: Tensor, priors: Priors, index: Tensor) -> Tensor:
        """The logits of P masks in each image.

        Args:
            feats: (B, C, h, w) mask features.
            params: (B, P, L), the networks.
            priors: N points.
            index: (B, P) int64, the prior that each network was predicted at.

        Returns:
            (B, P, h, w).
        """
        scale = priors.strides[index] * self.reach    # (B, P)
        x, y = ((priors.boxes[index][..., axis, None] - self._grid(feats, 3 - axis)) / scale[..., None]
                for axis in (0, 1))
        return dynamic_mask_logits(feats, params, (x, y), self.sizes)

    def _grid(self, feats: Tensor, dim: int) -> Tensor:
        """Positions in pixels of the cells along a dimension of `feats`."""
        return (torch.arange(feats.shape[dim], device=feats.device) + self.offset) * self.stride


def mask_targets(masks: InstanceMasks, instance: Tensor, stride: int, logits: Tensor) -> Tensor:
    """What logits (B, P, h, w) should say: (B * P, h, w) bool, the pixels right of and below the cells' middles."""
    return masks_at_stride(masks, instance, stride, (logits.shape[-2], logits.shape[-1]))


def enlarge_aligned(maps: Tensor, factor: int) -> Tensor:
    """Enlarge bilinearly so that cell i of the result lies at (i - factor // 2) / factor of the map, held inside.

    Args:
        maps: (B, C, h, w).
        factor: a whole number.

    Returns:
        (B, C, factor * h, factor * w).
    """
    if factor == 1:
        return maps
    h, w = (factor * n for n in maps.shape[-2:])
    if not maps.numel():    # an image without detections
        return maps.new_zeros(*maps.shape[:2], h, w)
    # With a cell more on each side, and corners on corners, cell i lies at i / factor - 1 of the map.
    wide = F.interpolate(F.pad(maps, (1, 1, 1, 1), mode='replicate'), size=(h + factor + 1, w + factor + 1),
                         mode='bilinear', align_corners=True)
    start = factor - factor // 2
    return wide[..., start:start + h, start:start + w]
