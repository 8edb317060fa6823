# ruff: noqa
"""The same neck as a user of MMDetection 2.x has it, in a file that lay in mmdet/models/necks/."""

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule, xavier_init
from mmcv.runner import BaseModule, auto_fp16

from ..builder import NECKS
from .old_fuse import fast_fusion


@NECKS.register_module()
class OldBiFPN(BaseModule):

    def __init__(self, in_channels, out_channels, num_outs, norm_cfg=dict(type='BN'), init_cfg=None):
        super(OldBiFPN, self).__init__(init_cfg)
        self.num_outs = num_outs
        self.fp16_enabled = False
        self.lateral = nn.ModuleList(
            ConvModule(c, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None, inplace=False) for c in in_channels)
        self.smooth = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg) for _ in range(num_outs))

    def init_weights(self):
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                xavier_init(m, distribution='uniform', bias=0.25)

    @auto_fp16()
    def forward(self, inputs):
        assert len(inputs) == len(self.lateral)
        feats = [conv(x) for conv, x in zip(self.lateral, inputs)]
        while len(feats) < self.num_outs:
            feats.append(F.max_pool2d(feats[-1], 1, stride=2))
        for i in range(self.num_outs - 1, 0, -1):
            feats[i - 1] = fast_fusion(feats[i - 1], F.interpolate(feats[i], size=feats[i - 1].shape[-2:]))
        for i in range(1, self.num_outs):
            feats[i] = fast_fusion(feats[i], F.adaptive_max_pool2d(feats[i - 1], feats[i].shape[-2:]))
        return tuple(conv(x) for conv, x in zip(self.smooth, feats))
