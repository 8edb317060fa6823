"""Convolutions that learn where to look (DCN, arXiv:1703.06211; DCNv2, arXiv:1811.11168)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from omnidet.registry import CONV_LAYERS


class DeformConv2d(nn.Conv2d):
    """A convolution each of whose taps is moved by an offset that it is given (DCN). Parameters: weight, bias.

    Args: see `torch.nn.Conv2d`; there is no bias by default.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:    # type: ignore[override]
        return self.sample(x, offset)

    def sample(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """The convolution of `x` at given offsets.

        Args:
            x: (B, C, H, W).
            offset: (B, deform_groups * 2 * taps, H_out, W_out) in pixels; dy and dx of each tap in turn.
            mask: (B, deform_groups * taps, H_out, W_out), a factor of each tap's sample; 1 where None.

        Returns:
            (B, out_channels, H_out, W_out), of the type of `x`; computed in float32 at least, as a half type has no
            fractions of a pixel left far from the origin.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        tensors = {'input': x, 'offset': offset, 'weight': self.weight, 'bias': self.bias, 'mask': mask}
        out: Tensor = deform_conv2d(**{k: None if t is None else t.to(dtype) for k, t in tensors.items()},    # type: ignore[arg-type]
                                    stride=self.stride, padding=self.padding, dilation=self.dilation)
        return out.to(x.dtype)


class DeformConv2dPack(DeformConv2d):
    """A convolution each of whose taps is moved by an offset that another convolution computes (DCN).

    Parameters: weight, bias, conv_offset. Offsets begin at 0, where this is a plain convolution.

    Args:
        deform_groups: groups of input channels that share offsets.
        deformable_groups: an older name of the same, which wins where it is given.
        im2col_step: accepted as configs carry it.
        The others: see `torch.nn.Conv2d`.
    """

    per_tap = 2    # numbers that `conv_offset` computes for a tap: the offset (dy, dx)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, deform_groups: int = 1, bias: bool = False,
                 im2col_step: int = 32, deformable_groups: int | None = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        if deformable_groups is not None:
            deform_groups = deformable_groups
        taps = self.kernel_size[0] * self.kernel_size[1]
        self.conv_offset = nn.Conv2d(in_channels, deform_groups * self.per_tap * taps, kernel_size, stride, padding,
                                     dilation)
        self.starts_at_zero = ('conv_offset',)
        nn.init.zeros_(self.conv_offset.weight)
        if self.conv_offset.bias is not None:
            nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:    # type: ignore[override]
        return self.sample(x, self.conv_offset(x))


class ModulatedDeformConv2dPack(DeformConv2dPack):
    """A deformable convolution that also weighs each sample, by a sigmoid (DCNv2).

    Parameters: weight, bias, conv_offset, whose last third are the weights' logits.

    Args: see `DeformConv2dPack`.
    """

    per_tap = 3

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0,
                 dilation: int | tuple[int, int] = 1, groups: int = 1, deform_groups: int = 1,
                 bias: bool = True, deformable_groups: int | None = None) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deform_groups, bias,
                         deformable_groups=deformable_groups)

    def forward(self, x: Tensor) -> Tensor:    # type: ignore[override]
        out = self.conv_offset(x)
        taps = out.shape[1] // 3
        return self.sample(x, out[:, :2 * taps], torch.sigmoid(out[:, 2 * taps:]))


for _cls, _names in {DeformConv2dPack: ('DCN', 'DeformConv2dPack'),
                     ModulatedDeformConv2dPack: ('DCNv2', 'ModulatedDeformConv2dPack')}.items():
    for _name in _names:
        CONV_LAYERS.register(_cls, _name)
