"""The mask head of Mask R-CNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn import ConvModule, build_conv, initialize
from omnidet.nn.upsample import build_upsample
from omnidet.registry import LOSSES, ROI_HEADS

Cfg = Mapping[str, Any]

DECONV: Cfg = {'type': 'deconv', 'scale_factor': 2}
CONV: Cfg = {'type': 'Conv'}
MASK_LOSS: Cfg = {'type': 'CrossEntropyLoss', 'use_mask': True, 'loss_weight': 1.0}


@ROI_HEADS.register
class FCNMaskHead(nn.Module):
    """Convolutions, one step of upsampling, and a mask for each class (Mask R-CNN, arXiv:1703.06870, section 3).

    Parameters: convs, upsample, conv_logits.

    Args:
        num_convs: convolutions before the upsampling.
        roi_feat_size: side of a RoI's features, in cells; accepted as configs carry it.
        in_channels: channels of the features.
        conv_kernel_size, conv_out_channels: of the convolutions.
        num_classes: K.
        class_agnostic: one mask for all classes.
        upsample_cfg: the kind of upsampling: 'deconv' (a ReLU follows), 'nearest', 'bilinear'; None for none.
        conv_cfg, norm_cfg: the kinds of convolution and norm.
        predictor_cfg: the kind of the last convolution.
        loss_mask: the loss.
        init_cfg: initial values.
    """

    def __init__(self, num_convs: int = 4, roi_feat_size: int | Sequence[int] = 14, in_channels: int = 256,
                 conv_kernel_size: int = 3, conv_out_channels: int = 256, num_classes: int = 80,
                 class_agnostic: bool = False, upsample_cfg: Cfg | None = DECONV, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = None, predictor_cfg: Cfg = CONV, loss_mask: Cfg = MASK_LOSS,
                 init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.class_agnostic = class_agnostic
        padding = (conv_kernel_size - 1) // 2
        widths = [in_channels] + [conv_out_channels] * num_convs
        self.convs = nn.ModuleList(ConvModule(i, o, conv_kernel_size, padding=padding, conv_cfg=conv_cfg,
                                              norm_cfg=norm_cfg) for i, o in pairwise(widths))
        kind = None if upsample_cfg is None else upsample_cfg.get('type')
        self.upsample = nn.Identity() if kind is None else build_upsample(
            upsample_cfg, widths[-1], conv_out_channels)    # type: ignore[arg-type]
        self.relu = nn.ReLU(inplace=True) if kind == 'deconv' else nn.Identity()
        width = conv_out_channels if kind == 'deconv' else widths[-1]
        self.conv_logits = build_conv(predictor_cfg, width, 1 if class_agnostic else num_classes, 1)
        self.loss_mask = LOSSES.build(loss_mask)
        for layer in (self.upsample, self.conv_logits):
            if isinstance(getattr(layer, 'weight', None), nn.Parameter):
                nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')    # type: ignore[arg-type]
                nn.init.zeros_(layer.bias)    # type: ignore[arg-type]
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, h, w) features -> (M, K or 1, 2h, 2w) logits."""
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(self.relu(self.upsample(x)))

    def losses(self, logits: Tensor, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss_mask`: the mean over the pixels of each RoI's mask for its class.

        Args:
            logits: (M, K or 1, h, w).
            masks: (M, h, w) of 0.0 and 1.0.
            labels: (M,) int64 classes.

        Raises:
            ConfigError: the masks have another size than the logits: `train_cfg.rcnn.mask_size` does not fit the head.
        """
        if masks.shape[1:] != logits.shape[2:]:
            raise ConfigError(f'FCNMaskHead predicts masks of {tuple(logits.shape[2:])} (h, w), and '
                              f'train_cfg.rcnn.mask_size asks for {tuple(masks.shape[1:])}')
        if len(logits) == 0:
            return {'loss_mask': logits.float().sum()}    # 0, and every parameter has a gradient
        return {'loss_mask': self.loss_mask(self._own(logits, labels), masks)}

    def probabilities(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M, h, w) in 0..1: each RoI's mask for its class (M,)."""
        return self._own(logits, labels).sigmoid()

    def _own(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M, K or 1, h, w) -> (M, h, w), the logits of each RoI's class."""
        channel = 0 if self.class_agnostic else labels
        return logits[torch.arange(len(logits), device=logits.device), channel].float()
