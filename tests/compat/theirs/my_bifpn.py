# ruff: noqa
"""A neck as a user of MMDetection 3.x has it: weighted fusion, up and down (EfficientDet, arXiv:1911.09070)."""

from typing import List

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig


class Fuse(BaseModule):

    def __init__(self, channels: int, inputs: int, norm_cfg: OptConfigType = None, eps: float = 1e-4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inputs))
        self.conv = DepthwiseSeparableConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg,
                                                 act_cfg=dict(type='Swish'))
        self.eps = eps

    def forward(self, inputs: List[Tensor]) -> Tensor:
        weight = self.weight.relu()
        weight = weight / (weight.sum() + self.eps)
        return self.conv(sum(w * x for w, x in zip(weight, inputs)))


@MODELS.register_module()
class MyBiFPN(BaseModule):

    def __init__(self, in_channels: List[int], out_channels: int, num_outs: int,
                 norm_cfg: ConfigType = dict(type='BN'),
                 init_cfg: OptMultiConfig = dict(type='Xavier', layer='Conv2d', distribution='uniform')) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_outs = num_outs
        self.lateral = ModuleList([ConvModule(c, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
                                   for c in in_channels])
        self.down = ModuleList([Fuse(out_channels, 2, norm_cfg) for _ in range(num_outs - 1)])
        self.up = ModuleList([Fuse(out_channels, 2 if i == num_outs - 2 else 3, norm_cfg)
                              for i in range(num_outs - 1)])

    def forward(self, inputs: List[Tensor]) -> tuple:
        feats = [conv(x) for conv, x in zip(self.lateral, inputs)]
        while len(feats) < self.num_outs:
            feats.append(F.max_pool2d(feats[-1], 3, 2, 1))
        middle = [feats[-1]]
        for i in range(self.num_outs - 2, -1, -1):
            above = F.interpolate(middle[0], size=feats[i].shape[-2:], mode='nearest')
            middle.insert(0, self.down[i]([feats[i], above]))
        outs = [middle[0]]
        for i in range(1, self.num_outs):
            below = F.adaptive_max_pool2d(outs[-1], feats[i].shape[-2:])
            parts = [feats[i], below] if i == self.num_outs - 1 else [feats[i], middle[i], below]
            outs.append(self.up[i - 1](parts))
        return tuple(outs)
