"""Layers that pool regions of a feature map; `layer(feat (B, C, H, W), rois (M, 5)) -> (M, C, h, w)`."""

from __future__ import annotations

from itertools import pairwise

import torchvision
from torch import Tensor, nn

from omnidet.ops.deform_roi_pool import deform_roi_pool
from omnidet.ops.roi_align import roi_align
from omnidet.registry import ROI_LAYERS

Size = int | tuple[int, int]


@ROI_LAYERS.register
class RoIAlign(nn.Module):
    """`omnidet.ops.roi_align.roi_align` as a layer (arXiv:1703.06870).

    Args:
        output_size: (h, w) bins, or one number for both.
        spatial_scale: pixels of the map for one pixel of the image.
        sampling_ratio: samples of a bin along each axis; 0 takes as many as the bin has pixels.
        pool_mode: 'avg' or 'max' over the samples of a bin.
        aligned: shift by half a pixel.
        use_torchvision: accepted as configs carry it; the values are the same.
    """

    def __init__(self, output_size: Size, spatial_scale: float = 1.0, sampling_ratio: int = 0, pool_mode: str = 'avg',
                 aligned: bool = True, use_torchvision: bool = False) -> None:
        super().__init__()
        self.output_size, self.spatial_scale, self.sampling_ratio = pair(output_size), spatial_scale, sampling_ratio
        self.pool_mode, self.aligned = pool_mode, aligned

    def forward(self, feat: Tensor, rois: Tensor) -> Tensor:
        return roi_align(feat, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned,
                         self.pool_mode)


@ROI_LAYERS.register
class RoIPool(nn.Module):
    """The greatest pixel of each bin (Fast R-CNN, arXiv:1504.08083, section 2.1).

    Args:
        output_size: (h, w) bins, or one number for both.
        spatial_scale: pixels of the map for one pixel of the image.
    """

    def __init__(self, output_size: Size, spatial_scale: float = 1.0) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = pair(output_size), spatial_scale

    def forward(self, feat: Tensor, rois: Tensor) -> Tensor:
        if feat.is_meta:    # torchvision has no shape for it
            return feat.new_empty(len(rois), feat.shape[1], *self.output_size)
        return torchvision.ops.roi_pool(feat.float(), rois.float(), self.output_size, self.spatial_scale).to(feat.dtype)


@ROI_LAYERS.register
class DeformRoIPoolPack(nn.Module):
    """RoIAlign whose bins move, by offsets that are predicted from the bins at rest (arXiv:1703.06211, section 2.2).

    Parameters: offset_fc. It begins with offsets of 0.

    Args:
        output_size: (h, w) bins, or one number for both.
        output_channels: channels of the map.
        deform_fc_channels: width of the hidden layers that predict the offsets.
        spatial_scale: pixels of the map for one pixel of the image.
        sampling_ratio: samples of a bin along each axis; 0 takes as many as the bin has pixels.
        gamma: the unit of the offsets, in widths and heights of the region.
    """

    def __init__(self, output_size: Size, output_channels: int, deform_fc_channels: int = 1024,
                 spatial_scale: float = 1.0, sampling_ratio: int = 0, gamma: float = 0.1) -> None:
        super().__init__()
        self.output_size, self.spatial_scale, self.sampling_ratio = pair(output_size), spatial_scale, sampling_ratio
        self.gamma = gamma
        bins = self.output_size[0] * self.output_size[1]
        self.offset_fc = _fully_connected(bins * output_channels, deform_fc_channels, deform_fc_channels, 2 * bins)

    def forward(self, feat: Tensor, rois: Tensor) -> Tensor:
        return self.pool(feat, rois, self.offset_fc(self.pool(feat, rois).flatten(1)))

    def pool(self, feat: Tensor, rois: Tensor, offset: Tensor | None = None) -> Tensor:
        """(M, C, h, w), with the bins moved by `offset` (M, 2 * h * w)."""
        offset = None if offset is None else offset.view(len(rois), 2, *self.output_size)
        return deform_roi_pool(feat, rois, offset, self.output_size, self.spatial_scale, self.sampling_ratio,
                               self.gamma)


@ROI_LAYERS.register
class ModulatedDeformRoIPoolPack(DeformRoIPoolPack):
    """`DeformRoIPoolPack` that also predicts a factor in 0..1 for each bin (arXiv:1811.11168, section 3.2).

    Parameters: offset_fc, mask_fc. It begins with offsets of 0 and factors of one half. Arguments are the same.
    """

    def __init__(self, output_size: Size, output_channels: int, deform_fc_channels: int = 1024,
                 spatial_scale: float = 1.0, sampling_ratio: int = 0, gamma: float = 0.1) -> None:
        super().__init__(output_size, output_channels, deform_fc_channels, spatial_scale, sampling_ratio, gamma)
        bins = self.output_size[0] * self.output_size[1]
        self.mask_fc = _fully_connected(bins * output_channels, deform_fc_channels, bins).append(nn.Sigmoid())

    def forward(self, feat: Tensor, rois: Tensor) -> Tensor:
        rest = self.pool(feat, rois).flatten(1)
        factor = self.mask_fc(rest).view(len(rois), 1, *self.output_size)
        return self.pool(feat, rois, self.offset_fc(rest)) * factor


def _fully_connected(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between; the last begins at zero."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
    last = layers[-2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers[:-1])


def pair(size: Size) -> tuple[int, int]:
    """(h, w) from one number for both, or two."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
