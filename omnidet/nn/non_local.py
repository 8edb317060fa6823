"""Every pixel sees every other (non-local networks, arXiv:1711.07971)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.conv_module import ConvModule
from omnidet.nn.init import normal_
from omnidet.registry import PLUGINS

Cfg = Mapping[str, Any]

MODES = ('embedded_gaussian', 'gaussian', 'dot_product', 'concatenation')


@PLUGINS.register
class NonLocal2d(nn.Module):
    """x + W y, where y_i is the mean of g(x_j) over all pixels j, weighed by f(x_i, x_j) (equations 1 and 6).

    Parameters: g, conv_out (W); theta and phi but for 'gaussian'; concat_project for 'concatenation'. With
    `sub_sample` g and phi are sequences, so their names get a `.0`.

    Args:
        in_channels: of the map.
        sub_sample: let i see the largest of each 2 x 2 pixels, a quarter as many j.
        conv_cfg: the kind of convolutions.
        norm_cfg: the kind of norm behind conv_out; none by default.
        reduction: g, theta and phi have in_channels / reduction channels.
        use_scale: divide the products by the root of their length ('embedded_gaussian').
        mode: f: 'gaussian', 'embedded_gaussian' (softmax over j of products), 'dot_product' (products / number of j),
            or 'concatenation' (ReLU of a projection of both / number of j).
        zeros_init: begin as the identity.
    """

    plugin_name = 'nonlocal_block'

    def __init__(self, in_channels: int, sub_sample: bool = False, conv_cfg: Cfg | None = None,
                 norm_cfg: Cfg | None = None, reduction: int = 2, use_scale: bool = True,
                 mode: str = 'embedded_gaussian', zeros_init: bool = True) -> None:
        super().__init__()
        if mode not in MODES:
            raise ConfigError(f'NonLocal2d: mode is {mode!r}; allowed are {", ".join(MODES)}')
        self.mode, self.use_scale = mode, use_scale
        width = max(in_channels // reduction, 1)

        def project() -> ConvModule:
            return ConvModule(in_channels, width, 1, conv_cfg=conv_cfg, act_cfg=None)

        self.g: nn.Module = project()
        self.conv_out = ConvModule(width, in_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=None)
        self.theta: nn.Module = nn.Identity() if mode == 'gaussian' else project()
        self.phi: nn.Module = nn.Identity() if mode == 'gaussian' else project()
        self.concat_project = ConvModule(2 * width, 1, 1, bias=False) if mode == 'concatenation' else None
        for conv in (self.g, self.theta, self.phi):
            if isinstance(conv, ConvModule):
                normal_(conv.conv, 0.01)
        last = 'conv' if self.conv_out.norm_name is None else self.conv_out.norm_name
        self.starts_at_zero = (f'conv_out.{last}',) if zeros_init else ()
        if zeros_init:
            for p in getattr(self.conv_out, last).parameters():
                nn.init.zeros_(p)
        else:
            normal_(self.conv_out.conv, 0.01)
        if sub_sample:
            self.g = nn.Sequential(self.g, nn.MaxPool2d(2))
            self.phi = nn.MaxPool2d(2) if mode == 'gaussian' else nn.Sequential(self.phi, nn.MaxPool2d(2))

    def _weights(self, theta: Tensor, phi: Tensor) -> Tensor:
        """f(x_i, x_j) / C(x), (B, I, J), of theta (B, C, I) and phi (B, C, J)."""
        if self.concat_project is not None:
            pairs = torch.cat([theta[..., None].expand(-1, -1, -1, phi.shape[-1]),
                               phi[:, :, None].expand(-1, -1, theta.shape[-1], -1)], 1)
            return self.concat_project(pairs)[:, 0] / phi.shape[-1]
        products = torch.matmul(theta.transpose(1, 2), phi)
        if self.mode == 'dot_product':
            return products / phi.shape[-1]
        if self.mode == 'embedded_gaussian' and self.use_scale:
            products = products / theta.shape[1] ** 0.5
        return products.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), also returned."""
        weights = self._weights(self.theta(x).flatten(2), self.phi(x).flatten(2))
        y = torch.matmul(self.g(x).flatten(2), weights.transpose(1, 2))    # (B, width, HW)
        return x + self.conv_out(y.unflatten(2, x.shape[2:]))
