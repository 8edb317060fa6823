# ruff: noqa
"""A backbone with blocks of its own, built through the registries, with layers of the user's."""

import torch.nn as nn
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, ModuleList, Sequential

from mmdet.models.builder import BACKBONES
from mmdet.registry import MODELS


@MODELS.register_module('ShiftedReLU')
class ShiftedReLU(nn.Module):

    def forward(self, x):
        return x.clamp(min=-1)


@MODELS.register_module()
class StripedConv(nn.Conv2d):
    """A kind of convolution for conv_cfg."""


class Block(BaseModule):

    def __init__(self, channels, width, stride, conv_cfg=None, norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU')):
        super().__init__(init_cfg=dict(type='Constant', layer='BatchNorm2d', val=0.5))
        self.conv1 = build_conv_layer(conv_cfg, channels, width, 3, stride, 1, bias=False)
        self.norm_name, norm = build_norm_layer(norm_cfg, width, postfix=1)
        self.add_module(self.norm_name, norm)
        self.act = build_activation_layer(act_cfg)

    @property
    def norm1(self):
        return getattr(self, self.norm_name)

    def forward(self, x):
        return self.act(self.norm1(self.conv1(x)))


@BACKBONES.register_module(name=['StripedNet', 'StripedNetAlias'])
class StripedNet(BaseModule):

    def __init__(self, width=8, out_indices=(1, 2, 3), frozen_stages=-1, norm_eval=False,
                 init_cfg=[dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', val=1, layer='BatchNorm2d')]):
        super().__init__(init_cfg)
        self.out_indices = out_indices
        common = dict(conv_cfg=dict(type='StripedConv'), act_cfg=dict(type='ShiftedReLU'))
        self.stem = Block(3, width, 2, **common)
        widths = [width * 2 ** i for i in range(5)]
        self.stages = ModuleList(Sequential(Block(a, b, 2, **common)) for a, b in zip(widths, widths[1:]))

    def forward(self, x):
        x = self.stem(x)
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)
