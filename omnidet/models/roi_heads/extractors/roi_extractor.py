"""RoI extractors: one small map of features for each box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import initialize
from omnidet.registry import PLUGINS, ROI_HEADS, ROI_LAYERS

Cfg = Mapping[str, Any]


@ROI_HEADS.register
class SingleRoIExtractor(nn.Module):
    """Each box from the one level that suits its size (FPN, arXiv:1612.03144, equation 1).

    Parameters: roi_layers, one for each level.

    Args:
        roi_layer: the kind of layer that samples a map, with its `output_size`.
        out_channels: channels of the maps.
        featmap_strides: pixels between the cells of each level, finest first; further levels are not looked at.
        finest_scale: boxes whose side (the root of their area, in pixels) is below twice this go to the first level.
        init_cfg: initial values.
    """

    def __init__(self, roi_layer: Cfg, out_channels: int, featmap_strides: Sequence[int], finest_scale: int = 56,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.roi_layers = _layers(roi_layer, featmap_strides)
        self.out_channels, self.finest_scale = out_channels, finest_scale
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """The features of each box.

        Args:
            feats: L maps (B, C, H_l, W_l), and possibly coarser ones that are left alone.
            rois: (M, 5), index of the image and x1, y1, x2, y2 in pixels.
            roi_scale_factor: look at boxes this much larger, about the same centres.

        Returns:
            (M, C, h, w).
        """
        levels = len(self.roi_layers)
        if roi_scale_factor is not None:
            rois = scale_rois(rois, roi_scale_factor)
        if levels == 1:
            return self.roi_layers[0](feats[0], rois)
        level = roi_levels(rois, levels, self.finest_scale)
        order = level.argsort(stable=True)
        counts = torch.bincount(level, minlength=levels).tolist()    # the one synchronisation with the device
        # A level without boxes is asked too, so that each one has a gradient, if only of zeros, in every process.
        parts = [layer(feat, rois[index]) for layer, feat, index in zip(
            self.roi_layers, feats, order.split(counts), strict=False)]
        return _in_order(parts, order)


@ROI_HEADS.register
class GenericRoIExtractor(nn.Module):
    """Each box from all levels, summed or side by side (GRoIE, arXiv:2004.13665).

    Parameters: roi_layers, pre_module, post_module.

    Args:
        aggregation: 'sum', or 'concat' along the channels.
        pre_cfg: a plugin that each level's features pass before they are put together.
        post_cfg: a plugin that the whole passes.
        roi_layer: the kind of layer that samples a map, with its `output_size`.
        out_channels: channels of the maps; with 'concat', of all levels together.
        featmap_strides: pixels between the cells of each level, finest first.
        init_cfg: initial values.

    Raises:
        ConfigError: another aggregation.
    """

    def __init__(self, aggregation: str = 'sum', pre_cfg: Cfg | None = None, post_cfg: Cfg | None = None, *,
                 roi_layer: Cfg, out_channels: int, featmap_strides: Sequence[int],
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        if aggregation not in ('sum', 'concat'):
            raise ConfigError(f"GenericRoIExtractor: aggregation is {aggregation!r}; allowed are 'sum' and 'concat'")
        self.roi_layers = _layers(roi_layer, featmap_strides)
        self.aggregation, self.out_channels = aggregation, out_channels
        self.pre_module = nn.Identity() if pre_cfg is None else PLUGINS.build(pre_cfg)
        self.post_module = nn.Identity() if post_cfg is None else PLUGINS.build(post_cfg)
        initialize(self, init_cfg)

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """As `SingleRoIExtractor.forward`; (M, C, h, w), with L times the channels where levels are concatenated."""
        if roi_scale_factor is not None:
            rois = scale_rois(rois, roi_scale_factor)
        if len(self.roi_layers) == 1:
            return self.roi_layers[0](feats[0], rois)
        parts = [self.pre_module(layer(feat, rois)) for layer, feat in zip(self.roi_layers, feats, strict=False)]
        whole = torch.cat(parts, 1) if self.aggregation == 'concat' else torch.stack(parts).sum(0)
        return self.post_module(whole)


def roi_levels(rois: Tensor, levels: int, finest_scale: float) -> Tensor:
    """(M,) int64 in 0..levels-1: floor(log2(root of the area / finest_scale)) of each box (M, 5)."""
    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).clamp(min=0).sqrt()
    return (side / finest_scale + 1e-6).log2().floor().clamp(0, levels - 1).long()


def scale_rois(rois: Tensor, factor: float) -> Tensor:
    """(M, 5) with every box `factor` times as wide and high, about its centre."""
    center, half = (rois[:, 1:3] + rois[:, 3:]) / 2, (rois[:, 3:] - rois[:, 1:3]) * (factor / 2)
    return torch.cat([rois[:, :1], center - half, center + half], 1)


def _in_order(parts: Sequence[Tensor], order: Tensor) -> Tensor:
    """Row order[i] of the result is row i of `parts`; it lies in memory as they do, on a CPU with channels last."""
    channels_last = any(len(p) > 0 and not p.is_contiguous() for p in parts)
    rows = [p.permute(0, 2, 3, 1) if channels_last else p for p in parts]
    out = rows[0].new_zeros(len(order), *rows[0].shape[1:])
    for index, part in zip(order.split([len(r) for r in rows]), rows, strict=True):
        out[index] = part
    return out.permute(0, 3, 1, 2) if channels_last else out


def _layers(roi_layer: Cfg, strides: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(ROI_LAYERS.build(roi_layer, spatial_scale=1 / s) for s in strides)
