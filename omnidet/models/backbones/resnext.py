"""ResNeXt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omnidet.nn.resnet_layers import BN, architecture
from omnidet.nn.resnet_trunk import ResNetTrunk
from omnidet.registry import BACKBONES

Cfg = Mapping[str, Any]


@BACKBONES.register
class ResNeXt(ResNetTrunk):
    """ResNeXt (arXiv:1611.05431): bottlenecks whose 3 x 3 convolutions are grouped.

    Args:
        depth: 50, 101 or 152.
        groups: of the 3 x 3 convolutions.
        base_width: channels of each group in the first stage.
        The others: see `ResNetTrunk`.
    """

    def __init__(self, depth: int, groups: int = 1, base_width: int = 4, in_channels: int = 3,
                 stem_channels: int | None = None, base_channels: int = 64, num_stages: int = 4,
                 strides: Sequence[int] = (1, 2, 2, 2), dilations: Sequence[int] = (1, 1, 1, 1),
                 out_indices: Sequence[int] = (0, 1, 2, 3), style: str = 'pytorch', deep_stem: bool = False,
                 avg_down: bool = False, frozen_stages: int = -1, conv_cfg: Cfg | None = None, norm_cfg: Cfg = BN,
                 norm_eval: bool = True, dcn: Cfg | None = None,
                 stage_with_dcn: Sequence[bool] = (False, False, False, False),
                 plugins: Sequence[Cfg] | None = None, with_cp: bool = False, zero_init_residual: bool = True,
                 pretrained: str | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(
            *architecture(depth, (50, 101, 152)),
            {'groups': groups, 'base_width': base_width, 'base_channels': base_channels},
            in_channels=in_channels, stem_channels=stem_channels, base_channels=base_channels, num_stages=num_stages,
            strides=strides, dilations=dilations, out_indices=out_indices, style=style, deep_stem=deep_stem,
            avg_down=avg_down, frozen_stages=frozen_stages, conv_cfg=conv_cfg, norm_cfg=norm_cfg, norm_eval=norm_eval,
            dcn=dcn, stage_with_dcn=stage_with_dcn, plugins=plugins, with_cp=with_cp,
            zero_init_residual=zero_init_residual, pretrained=pretrained, init_cfg=init_cfg)
