"""ResNet and ResNet-D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omnidet.nn.resnet_layers import BN, architecture
from omnidet.nn.resnet_trunk import ResNetTrunk
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]


@BACKBONES.register
class ResNet(ResNetTrunk):
    """ResNet (arXiv:1512.03385).

    Args:
        depth: 18, 34, 50, 101 or 152.
        The others: see `ResNetTrunk`.
    """

    def __init__(self, depth: int, in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64,
                 num_stages: int = 4, strides: Sequence[int] = (1, 2, 2, 2), dilations: Sequence[int] = (1, 1, 1, 1),
                 out_indices: Sequence[int] = (0, 1, 2, 3), style: str = 'pytorch', deep_stem: bool = False,
                 avg_down: bool = False, frozen_stages: int = -1, conv_cfg: Cfg | None = None, norm_cfg: Cfg = BN,
                 norm_eval: bool = True, dcn: Cfg | None = None,
                 stage_with_dcn: Sequence[bool] = (False, False, False, False),
                 plugins: Sequence[Cfg] | None = None, with_cp: bool = False, zero_init_residual: bool = True,
                 pretrained: str | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(
            *architecture(depth), in_channels=in_channels, stem_channels=stem_channels, base_channels=base_channels,
            num_stages=num_stages, strides=strides, dilations=dilations, out_indices=out_indices, style=style,
            deep_stem=deep_stem, avg_down=avg_down, frozen_stages=frozen_stages, conv_cfg=conv_cfg, norm_cfg=norm_cfg,
            norm_eval=norm_eval, dcn=dcn, stage_with_dcn=stage_with_dcn, plugins=plugins, with_cp=with_cp,
            zero_init_residual=zero_init_residual, pretrained=pretrained, init_cfg=init_cfg)


@BACKBONES.register
class ResNetV1d(ResNet):
    """ResNet-D (arXiv:1812.01187, section 4.2): a deep stem, and means in the shortcuts.

    Args: see `ResNet`.
    """

    def __init__(self, depth: int, in_channels: int = 3, stem_channels: int | None = None, base_channels: int = 64,
                 num_stages: int = 4, strides: Sequence[int] = (1, 2, 2, 2), dilations: Sequence[int] = (1, 1, 1, 1),
                 out_indices: Sequence[int] = (0, 1, 2, 3), style: str = 'pytorch', frozen_stages: int = -1,
                 conv_cfg: Cfg | None = None, norm_cfg: Cfg = BN, norm_eval: bool = True, dcn: Cfg | None = None,
                 stage_with_dcn: Sequence[bool] = (False, False, False, False),
                 plugins: Sequence[Cfg] | None = None, with_cp: bool = False, zero_init_residual: bool = True,
                 pretrained: str | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(
            depth, in_channels, stem_channels, base_channels, num_stages, strides, dilations, out_indices, style,
            deep_stem=True, avg_down=True, frozen_stages=frozen_stages, conv_cfg=conv_cfg, norm_cfg=norm_cfg,
            norm_eval=norm_eval, dcn=dcn, stage_with_dcn=stage_with_dcn, plugins=plugins, with_cp=with_cp,
            zero_init_residual=zero_init_residual, pretrained=pretrained, init_cfg=init_cfg)
