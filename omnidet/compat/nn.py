"""`mmengine.model` and `mmcv.cnn`: base classes, layers by their config, and how they draw their initial values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import omnidet.nn.attention as attention
import omnidet.nn.deform_attention as deform_attention
from omnidet.errors import ConfigError
from omnidet.nn.init import bias_for_probability
from omnidet.nn.initialize import INITIALISERS, initialize
from omnidet.nn.layers import build_activation, build_conv, build_norm
from omnidet.registry import PLUGINS, UPSAMPLE_LAYERS

Cfg = Mapping[str, Any]

bias_init_with_prob = bias_for_probability


def init_weights(module: Any) -> None:
    """Draw the values that `module.init_cfg` asks for, then those of its children; files of weights are read later."""
    initialize(module, module.init_cfg)
    for child in module.children():
        if hasattr(child, 'init_weights'):
            child.init_weights()


class BaseModule(nn.Module):
    """A module with an `init_cfg`. The registry calls `init_weights` when it has built a user's part.

    Args:
        init_cfg: how to initialise; see `omnidet.nn.initialize`.
    """

    def __init__(self, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__()
        self.init_cfg = copy.deepcopy(init_cfg)

    def init_weights(self) -> None:
        init_weights(self)


class Sequential(nn.Sequential):
    """`torch.nn.Sequential` with an `init_cfg`."""

    def __init__(self, *args: Any, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(*args)
        self.init_cfg = copy.deepcopy(init_cfg)

    def init_weights(self) -> None:
        init_weights(self)


class ModuleList(nn.ModuleList):
    """`torch.nn.ModuleList` with an `init_cfg`."""

    def __init__(self, modules: Any = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(modules)
        self.init_cfg = copy.deepcopy(init_cfg)

    def init_weights(self) -> None:
        init_weights(self)


class ModuleDict(nn.ModuleDict):
    """`torch.nn.ModuleDict` with an `init_cfg`."""

    def __init__(self, modules: Any = None, init_cfg: Cfg | Sequence[Cfg] | None = None) -> None:
        super().__init__(modules)
        self.init_cfg = copy.deepcopy(init_cfg)

    def init_weights(self) -> None:
        init_weights(self)


# ------------------------------------------------------------------------------------------------- layers by config

def build_conv_layer(cfg: Cfg | None, *args: Any, **kwargs: Any) -> nn.Module:
    """The convolution that `cfg` names, with the arguments of `torch.nn.Conv2d`; a plain one where it is None."""
    names = ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding', 'dilation', 'groups', 'bias')
    return build_conv(cfg, **dict(zip(names, args, strict=False)), **kwargs)    # type: ignore[misc]


def build_norm_layer(cfg: Cfg, num_features: int, postfix: int | str = '') -> tuple[str, nn.Module]:
    """The name of a norm (`bn1`) and the norm."""
    name, layer = build_norm(cfg, num_features)
    return f'{name}{postfix}', layer


def build_activation_layer(cfg: Cfg) -> nn.Module:
    """The activation that `cfg` names."""
    return build_activation(cfg, inplace=False)


def build_upsample_layer(cfg: Cfg, *args: Any, **kwargs: Any) -> nn.Module:
    """The layer that `cfg` names; interpolating kinds have no channels."""
    options = {**dict(zip(('in_channels', 'out_channels', 'scale_factor'), args, strict=False)), **kwargs, **cfg}
    return UPSAMPLE_LAYERS.build(options, **{k: 1 for k in ('in_channels', 'out_channels') if k not in options})


def build_padding_layer(cfg: Cfg, *args: Any, **kwargs: Any) -> nn.Module:
    """Padding with zeros, the border's values, or their reflection."""
    kinds = {'zero': nn.ZeroPad2d, 'reflect': nn.ReflectionPad2d, 'replicate': nn.ReplicationPad2d}
    if cfg.get('type') not in kinds:
        raise ConfigError(f'there is no padding layer {cfg.get("type")!r}; there are {", ".join(kinds)}')
    return kinds[cfg['type']](*args, **kwargs)


def build_plugin_layer(cfg: Cfg, postfix: int | str = '', **kwargs: Any) -> tuple[str, nn.Module]:
    """The name of a plugin and the plugin."""
    plugin = PLUGINS.build(cfg, **kwargs)
    return f'{getattr(plugin, "plugin_name", type(plugin).__name__.lower())}{postfix}', plugin


def build_dropout(cfg: Cfg, default_args: Cfg | None = None) -> nn.Module:
    """`dict(type='Dropout' | 'DropPath', drop_prob=...)` as a layer."""
    from omnidet.nn.drop import DropPath
    options = {**(default_args or {}), **cfg}
    if options.get('type') not in ('Dropout', 'DropPath'):
        raise ConfigError(f'there is no dropout {options.get("type")!r}; there are Dropout and DropPath')
    p = options.get('drop_prob', 0.5 if options['type'] == 'Dropout' else 0.1)
    return nn.Dropout(p, options.get('inplace', False)) if options['type'] == 'Dropout' else DropPath(p)


def is_norm(layer: nn.Module, exclude: type | tuple[type, ...] | None = None) -> bool:
    """Whether `layer` is a norm, and none of `exclude`."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)
    return isinstance(layer, kinds) and not (exclude is not None and isinstance(layer, exclude))


# --------------------------------------------------------------------------------------------------- initial values

def _draw(module: nn.Module, kind: str, bias: float, **options: Any) -> None:
    if isinstance(getattr(module, 'weight', None), Tensor):
        with torch.no_grad():
            INITIALISERS[kind](module.weight, **options)    # type: ignore[arg-type]
    if isinstance(getattr(module, 'bias', None), Tensor):
        nn.init.constant_(module.bias, bias)    # type: ignore[arg-type]


def constant_init(module: nn.Module, val: float, bias: float = 0) -> None:
    _draw(module, 'Constant', bias, val=val)


def xavier_init(module: nn.Module, gain: float = 1, bias: float = 0, distribution: str = 'normal') -> None:
    _draw(module, 'Xavier', bias, gain=gain, distribution=distribution)


def normal_init(module: nn.Module, mean: float = 0, std: float = 1, bias: float = 0) -> None:
    _draw(module, 'Normal', bias, mean=mean, std=std)


def trunc_normal_init(module: nn.Module, mean: float = 0, std: float = 1, a: float = -2, b: float = 2,
                      bias: float = 0) -> None:
    _draw(module, 'TruncNormal', bias, mean=mean, std=std, a=a, b=b)


def uniform_init(module: nn.Module, a: float = 0, b: float = 1, bias: float = 0) -> None:
    _draw(module, 'Uniform', bias, a=a, b=b)


def kaiming_init(module: nn.Module, a: float = 0, mode: str = 'fan_out', nonlinearity: str = 'relu', bias: float = 0,
                 distribution: str = 'normal') -> None:
    _draw(module, 'Kaiming', bias, a=a, mode=mode, nonlinearity=nonlinearity, distribution=distribution)


def caffe2_xavier_init(module: nn.Module, bias: float = 0) -> None:
    _draw(module, 'Caffe2Xavier', bias)


def update_init_info(module: nn.Module, init_info: str) -> None:
    """Nothing: where a value came from is not recorded."""


# ------------------------------------------------------------------------------------------------------- precision

def auto_fp16(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A decorator that changes nothing: under `AmpOptimWrapper` autocast picks the type of every operation."""
    return lambda function: function


def force_fp32(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A decorator: the function runs in float32, with autocast off and half tensors among its arguments widened."""
    def decorate(function: Any) -> Any:
        def in_float32(self: Any, *values: Any, **named: Any) -> Any:
            with torch.autocast('cuda', enabled=False), torch.autocast('cpu', enabled=False):
                return function(self, *map(_widened, values), **{k: _widened(v) for k, v in named.items()})
        in_float32.__name__, in_float32.__doc__ = function.__name__, function.__doc__
        return in_float32
    return decorate


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, Mapping):
        return {k: _widened(v) for k, v in value.items()}
    return type(value)(map(_widened, value)) if type(value) in (list, tuple) else value


# ------------------------------------------------------------------------------------------------------- attention

class MultiheadAttention(attention.MultiheadAttention):
    """OmniDet's attention under the calls of MMCV's: tensors are (N, B, C) unless `batch_first`."""

    def __init__(self, embed_dims: int, num_heads: int, attn_drop: float = 0.0, proj_drop: float = 0.0,
                 dropout_layer: Cfg | None = None, init_cfg: Cfg | Sequence[Cfg] | None = None,
                 batch_first: bool = False, bias: bool = True) -> None:
        super().__init__(embed_dims, num_heads, attn_drop, proj_drop, dropout_layer, init_cfg, bias=bias)
        self.embed_dims, self.num_heads, self.batch_first = embed_dims, num_heads, batch_first

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,    # type: ignore[override]
                identity: Tensor | None = None, query_pos: Tensor | None = None, key_pos: Tensor | None = None,
                attn_mask: Tensor | None = None, key_padding_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """identity + attention of query to key; `attn_mask` is bool, True where a query may not look."""
        key = query if key is None else key
        value = key if value is None else value
        identity = query if identity is None else identity
        if key_pos is None and query_pos is not None and query_pos.shape == key.shape:
            key_pos = query_pos
        q, k = (x if pos is None else x + pos for x, pos in ((query, query_pos), (key, key_pos)))
        if attn_mask is not None:
            if attn_mask.dtype != torch.bool:
                raise ConfigError(f'MultiheadAttention: attn_mask is {attn_mask.dtype}; a mask is bool here')
            if attn_mask.ndim == 3:    # (B * M, Q, N)
                attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
        if not self.batch_first:
            q, k, value = (x.transpose(0, 1) for x in (q, k, value))
        out = self.attn(q, k, value, attention._allowed(key_padding_mask, attn_mask))
        return identity + self.dropout_layer(self.proj_drop(out if self.batch_first else out.transpose(0, 1)))


class MultiScaleDeformableAttention(deform_attention.MultiScaleDeformableAttention):
    """OmniDet's deformable attention under the calls of MMCV's: tensors are (N, B, C) unless `batch_first`."""

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, num_levels: int = 4, num_points: int = 4,
                 im2col_step: int = 64, dropout: float = 0.1, batch_first: bool = False, norm_cfg: Cfg | None = None,
                 init_cfg: Cfg | Sequence[Cfg] | None = None, value_proj_ratio: float = 1.0) -> None:
        super().__init__(embed_dims, num_heads, num_levels, num_points, im2col_step, dropout, True, norm_cfg, init_cfg,
                         value_proj_ratio)
        self.batch_first = batch_first

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,    # type: ignore[override]
                identity: Tensor | None = None, query_pos: Tensor | None = None,
                key_padding_mask: Tensor | None = None, reference_points: Tensor | None = None,
                spatial_shapes: Tensor | None = None, level_start_index: Tensor | None = None, **kwargs: Any) -> Tensor:
        """identity + attention to points around `reference_points`, on levels of `spatial_shapes` (L, 2) as h, w."""
        if reference_points is None or spatial_shapes is None:
            raise ConfigError('MultiScaleDeformableAttention needs reference_points and spatial_shapes')
        added = 0.0 if identity is None else identity - query
        if not self.batch_first:
            query = query.transpose(0, 1)
            value, query_pos = (None if x is None else x.transpose(0, 1) for x in (value, query_pos))
        shapes = [(int(h), int(w)) for h, w in spatial_shapes.tolist()]
        out = super().forward(query, value, query_pos=query_pos, key_padding_mask=key_padding_mask,
                              reference_points=reference_points, shapes=shapes)
        return (out if self.batch_first else out.transpose(0, 1)) + added
