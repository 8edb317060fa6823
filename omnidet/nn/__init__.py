"""Bricks with parameters that models share, under the names that configs and checkpoints know."""

from omnidet.nn.conv_module import ConvModule, DepthwiseSeparableConvModule
from omnidet.nn.init import bias_for_probability, init_conv_, normal_
from omnidet.nn.initialize import initialize
from omnidet.nn.layers import build_activation, build_conv, build_norm
from omnidet.nn.scale import Scale
from omnidet.nn.upsample import build_upsample

__all__ = [
    'ConvModule', 'DepthwiseSeparableConvModule', 'Scale', 'bias_for_probability', 'build_activation', 'build_conv',
    'build_norm', 'build_upsample', 'init_conv_', 'initialize', 'normal_',
]
