"""Rows of linear layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnidet.errors import ConfigError
from omnidet.nn.initialize import initialize
from omnidet.nn.layers import build_activation

Cfg = Mapping[str, Any]


class MLP(nn.Module):
    """Linear layers with a ReLU between them. Parameters: layers.

    Args:
        input_dim, hidden_dim, output_dim: widths.
        num_layers: how many linear layers.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) -> (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class FFN(nn.Module):
    """The feed-forward part of a transformer layer: x + layers(x) (arXiv:1706.03762, equation 2).

    Parameters: layers (`layers.0.0`, `layers.1` for two of them), gamma2.weight where outputs are scaled.

    Args:
        embed_dims: C, the width of input and output.
        feedforward_channels: the width between.
        num_fcs: how many linear layers, at least 2.
        act_cfg: the activation.
        ffn_drop: the probability that an activation or an output is dropped.
        dropout_layer: a further dropout of the output, `dict(type='Dropout', drop_prob=...)`.
        add_identity: add the input.
        init_cfg: how to initialise; see `initialize`.
        layer_scale_init_value: where positive, outputs are multiplied by a learned vector that begins there.
    """

    def __init__(self, embed_dims: int = 256, feedforward_channels: int = 1024, num_fcs: int = 2,
                 act_cfg: Cfg = {'type': 'ReLU', 'inplace': True}, ffn_drop: float = 0.0,
                 dropout_layer: Cfg | None = None, add_identity: bool = True,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, layer_scale_init_value: float = 0.0) -> None:
        super().__init__()
        if num_fcs < 2:
            raise ConfigError(f'FFN: num_fcs is {num_fcs}; at least 2 are needed')
        if dropout_layer is not None and dropout_layer.get('type', 'Dropout') != 'Dropout':
            raise ConfigError(f"FFN: dropout_layer has the type {dropout_layer['type']!r}; allowed is 'Dropout'")
        self.embed_dims, self.add_identity = embed_dims, add_identity
        widths = [embed_dims, *[feedforward_channels] * (num_fcs - 1)]
        self.layers = nn.Sequential(
            *[nn.Sequential(nn.Linear(a, b), build_activation(act_cfg), nn.Dropout(ffn_drop))
              for a, b in itertools.pairwise(widths)],
            nn.Linear(widths[-1], embed_dims), nn.Dropout(ffn_drop))
        self.gamma2: nn.Module = nn.Identity()
        if layer_scale_init_value > 0:
            self.gamma2 = LayerScale(embed_dims, layer_scale_init_value)
        self.dropout_layer = nn.Identity() if dropout_layer is None else nn.Dropout(dropout_layer.get('drop_prob', 0.5))
        initialize(self, init_cfg)

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """(..., C) -> (..., C); `identity` is what is added, x itself where None."""
        out = self.dropout_layer(self.gamma2(self.layers(x)))
        if not self.add_identity:
            return out
        return (x if identity is None else identity) + out


class LayerScale(nn.Module):
    """Each channel times a learned factor (arXiv:2103.17239, equation 4). Parameters: weight.

    Args:
        dim: C.
        scale: the factor at the beginning.
    """

    def __init__(self, dim: int, scale: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight
