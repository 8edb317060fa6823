"""How TOOD's head lets classification and localisation see each other (arXiv:2108.07755, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from omnidet.nn.conv_module import ConvModule

Cfg = Mapping[str, Any]


class TaskDecomposition(nn.Module):
    """One task's features: the tower's layers weighed by attention, then joined (arXiv:2108.07755, equations 2 and 3).

    Parameters: layer_attention, reduction_conv.

    Args:
        channels: of each layer, and of the result.
        layers: how many layers there are.
        conv_cfg, norm_cfg: the kinds of the joining convolution's layers.
    """

    def __init__(self, channels: int, layers: int, conv_cfg: Cfg | None = None, norm_cfg: Cfg | None = None) -> None:
        super().__init__()
        hidden = channels // 8
        self.layer_attention = nn.Sequential(nn.Conv2d(channels * layers, hidden, 1), nn.ReLU(inplace=True),
                                             nn.Conv2d(hidden, layers, 1), nn.Sigmoid())
        self.reduction_conv = ConvModule(channels * layers, channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg)

    def forward(self, feat: Tensor, mean: Tensor) -> Tensor:
        """(B, layers * C, H, W) and its mean (B, layers * C, 1, 1) -> (B, C, H, W)."""
        channels = self.reduction_conv.conv.out_channels
        attention = self.layer_attention(mean).repeat_interleave(channels, 1)
        out: Tensor = self.reduction_conv(feat * attention)
        return out


def geometric_mean(a: Tensor, b: Tensor) -> Tensor:
    """sqrt(sigmoid(a) sigmoid(b)), with a gradient that stays finite where a factor is 0."""
    return ((F.logsigmoid(a) + F.logsigmoid(b)) / 2).exp()


def moved_boxes(boxes: Tensor, offset: Tensor) -> Tensor:
    """Each side taken from another cell, by bilinear sampling (arXiv:2108.07755, equation 5).

    Args:
        boxes: (B, 4, H, W).
        offset: (B, 8, H, W) in cells, dy and dx of each side.

    Returns:
        (B, 4, H, W); where the sides would come out in the wrong order, the boxes as they were.
    """
    one_tap = boxes.new_ones(4, 1, 1, 1)
    moved = deform_conv2d(boxes, offset, one_tap)
    swapped = (moved[:, :2] > moved[:, 2:]).any(1, keepdim=True)
    return torch.where(swapped, boxes, moved)
