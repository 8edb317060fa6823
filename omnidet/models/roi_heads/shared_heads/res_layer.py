"""The last stage of a ResNet as the head of each region of interest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.nn import initialize
from omnidet.nn.freeze import norms_to_eval
from omnidet.nn.resnet_layers import BN, architecture, make_res_layer
from omnidet.registry import ROI_HEADS

Cfg = Mapping[str, Any]


@ROI_HEADS.register
class ResLayer(nn.Module):
    """A stage of a ResNet on each RoI: the C4 head (Faster R-CNN with ResNet, arXiv:1512.03385, appendix A).

    Parameters: layer4, or that of another stage.

    Args:
        depth: of the ResNet: 18, 34, 50, 101 or 152.
        stage: which of its stages, from 0.
        stride, dilation: of the stage.
        style: where a bottleneck has its stride: 'pytorch' or 'caffe'.
        norm_cfg: the kind of norm.
        norm_eval: keep its batch norms in evaluation mode.
        with_cp: compute activations again in the backward pass, to save memory.
        dcn: deformable convolutions in the place of 3 x 3 ones.
        pretrained: accepted as configs carry it.
        init_cfg: initial values.
    """

    def __init__(self, depth: int, stage: int = 3, stride: int = 2, dilation: int = 1, style: str = 'pytorch',
                 norm_cfg: Cfg = BN, norm_eval: bool = True, with_cp: bool = False, dcn: Cfg | None = None,
                 pretrained: str | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        block, blocks = architecture(depth)
        planes = 64 * 2 ** stage
        inplanes = 64 * 2 ** (stage - 1) * block.expansion if stage else 64
        self.norm_eval = norm_eval
        self.name = f'layer{stage + 1}'
        self.add_module(self.name, make_res_layer(block, inplanes, planes, blocks[stage], stride, dilation,
                                                  norm_cfg=norm_cfg, style=style, with_cp=with_cp, dcn=dcn))
        initialize(self, init_cfg, default=[
            {'type': 'Kaiming', 'layer': 'Conv2d'}, {'type': 'Constant', 'val': 1, 'layer': '_BatchNorm'}])

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, h, w) -> (M, C', h / stride, w / stride)."""
        return getattr(self, self.name)(x)

    def train(self, mode: bool = True) -> ResLayer:
        super().train(mode)
        if self.norm_eval:
            norms_to_eval([self])
        return self
