"""From `optim_wrapper` to a torch optimizer with its parameter groups, and the step that it takes with each loss."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from omnidet.errors import ConfigError, did_you_mean
from omnidet.registry import OPTIM_WRAPPERS, OPTIMIZERS

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)

for _cls in vars(torch.optim).values():
    if isinstance(_cls, type) and issubclass(_cls, torch.optim.Optimizer) and _cls is not torch.optim.Optimizer:
        OPTIMIZERS.register(_cls)


@OPTIM_WRAPPERS.register
@dataclass
class OptimWrapper:
    """How the model is optimised.

    Attributes:
        optimizer: one of torch's by its name, with its arguments.
        accumulative_counts: gradients of so many batches are added up before a step.
        clip_grad: `dict(max_norm=35, norm_type=2)`, or `dict(type='value', clip_value=0.1)`.
        paramwise_cfg: rates and decays of some parameters, see `parameter_groups` (or `layer_decay_groups`).
        constructor: how `paramwise_cfg` is read.
    """

    optimizer: Mapping[str, Any]
    accumulative_counts: int = 1
    clip_grad: Mapping[str, Any] | None = None
    paramwise_cfg: Mapping[str, Any] | None = None
    constructor: str = 'DefaultOptimWrapperConstructor'


@OPTIM_WRAPPERS.register
@dataclass
class AmpOptimWrapper(OptimWrapper):
    """`OptimWrapper` in mixed precision.

    Attributes:
        loss_scale: 'dynamic', a number, or the arguments of torch's GradScaler; float16 needs it, bfloat16 does not.
        dtype: 'float16' or 'bfloat16'; None is float16 on a GPU and bfloat16 on a CPU.
    """

    loss_scale: str | float | Mapping[str, Any] = 'dynamic'
    dtype: str | None = None


def build_wrapper(cfg: Mapping[str, Any]) -> OptimWrapper:
    """The config's `optim_wrapper`.

    Raises:
        ConfigError: there is none, or it has an argument that is unknown.
    """
    if not cfg.get('optim_wrapper'):
        raise ConfigError("optim_wrapper is missing: say how to optimise, for example optim_wrapper = "
                          "dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05))")
    return OPTIM_WRAPPERS.build({'type': 'OptimWrapper', **cfg['optim_wrapper']})


def build_optimizer(cfg: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that a config asks for, over a model's parameters.

    Parameters with equal settings share a group, so that the optimizer can update many at once.

    Args:
        cfg: the whole config; `optim_wrapper` is read.
        model: on any device, the meta device too.
    """
    wrapper = build_wrapper(cfg)
    settings = {k: v for k, v in wrapper.optimizer.items()}
    constructor = str(wrapper.constructor).rpartition('.')[2]
    if not wrapper.paramwise_cfg:
        groups: list[dict[str, Any]] = [{'params': list(model.parameters())}]
    elif constructor in GROUPINGS:
        try:
            groups = GROUPINGS[constructor](model, settings.get('lr'), settings.get('weight_decay'),
                                            **wrapper.paramwise_cfg)
        except TypeError as e:
            raise ConfigError(f'optim_wrapper.paramwise_cfg: {e}') from e
    else:
        near = did_you_mean(constructor, GROUPINGS)
        raise ConfigError(f'optim_wrapper.constructor: there is no {constructor!r}{near}')
    kind = settings.get('type')
    cls = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    fuses = cls is not None and 'fused' in inspect.signature(cls).parameters and not settings.get('foreach')
    if fuses and _can_fuse(model):
        settings.setdefault('fused', True)
    return OPTIMIZERS.build(settings, params=groups)


def parameter_groups(model: nn.Module, lr: float | None, weight_decay: float | None, *,
                     custom_keys: Mapping[str, Mapping[str, Any]] | None = None,
                     bias_lr_mult: float = 1.0, bias_decay_mult: float = 1.0, norm_decay_mult: float | None = None,
                     dwconv_decay_mult: float | None = None, dcn_offset_lr_mult: float = 1.0,
                     flat_decay_mult: float | None = None, bypass_duplicate: bool = False) -> list[dict[str, Any]]:
    """Parameter groups by kind and name of the parameters.

    Args:
        model: whose parameters; one that several modules share is counted where it first appears.
        lr: the optimizer's learning rate; None where it has a default of its own.
        weight_decay: likewise.
        custom_keys: `{part of a name: dict(lr_mult=..., decay_mult=..., any setting of a group)}`. The longest key that
            is part of a parameter's name holds, and nothing else then does.
        bias_lr_mult: for biases, save those of norms and of what computes a deformable convolution's offsets.
        bias_decay_mult: likewise.
        norm_decay_mult: for weights and biases of norms; where None, their biases are biases like others.
        dwconv_decay_mult: for depthwise convolutions; likewise.
        dcn_offset_lr_mult: for the convolutions that give a deformable convolution's offsets.
        flat_decay_mult: for parameters of one dimension that are not a norm's.
        bypass_duplicate: accepted for the sake of existing configs; a shared parameter is never counted twice.
    """
    keys = sorted(sorted(custom_keys or {}), key=len, reverse=True)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, p, module, in_dcn in _parameters(model):
        owner, _, leaf = name.rpartition('.')
        is_norm = isinstance(module, NORMS)
        lr_mult, decay_mult, extra = 1.0, 1.0, {}
        key = next((k for k in keys if k in name), None)
        if key is not None and custom_keys:
            extra = dict(custom_keys[key])
            lr_mult, decay_mult = extra.pop('lr_mult', 1.0), extra.pop('decay_mult', 1.0)
        else:
            if leaf == 'bias' and not is_norm and not in_dcn:
                lr_mult = bias_lr_mult
            if in_dcn and 'conv_offset' in owner and isinstance(module, nn.Conv2d):
                lr_mult = dcn_offset_lr_mult
            if is_norm and norm_decay_mult is not None:
                decay_mult = norm_decay_mult
            elif flat_decay_mult is not None and p.ndim == 1:
                decay_mult = flat_decay_mult
            elif dwconv_decay_mult is not None and isinstance(module, nn.Conv2d) and \
                    module.in_channels == module.groups:
                decay_mult = dwconv_decay_mult
            elif leaf == 'bias' and not in_dcn:
                decay_mult = bias_decay_mult
        if lr is not None and lr_mult != 1:
            extra.setdefault('lr', lr * lr_mult)
        if weight_decay is not None and decay_mult != 1:
            extra.setdefault('weight_decay', weight_decay * decay_mult)
        groups.setdefault(tuple(sorted(extra.items())), {'params': [], **extra})['params'].append(p)
    return list(groups.values())


def layer_decay_groups(model: nn.Module, lr: float, weight_decay: float | None, *, num_layers: int, decay_rate: float,
                       decay_type: str = 'layer_wise', norm_decay_mult: float = 1.0, bias_decay_mult: float = 1.0,
                       bypass_duplicate: bool = False) -> list[dict[str, Any]]:
    """Smaller rates towards the input of a ConvNeXt; no decay of parameters of one dimension.

    Args:
        model: with a ConvNeXt as its `backbone`.
        lr: of the heads.
        weight_decay: of the weights.
        num_layers: how many steps the backbone has.
        decay_rate: the rate's factor from one step to the step before it.
        decay_type: 'layer_wise' (three blocks of the long stage are a step) or 'stage_wise'.
        norm_decay_mult, bias_decay_mult, bypass_duplicate: accepted as configs carry it, inherited from others.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    depth = {'layer_wise': _layer_of, 'stage_wise': _stage_of}
    if decay_type not in depth:
        raise ConfigError(f'paramwise_cfg.decay_type: {decay_type!r} is neither layer_wise nor stage_wise')
    for name, p in model.named_parameters():
        rate = lr * decay_rate ** (num_layers + 1 - depth[decay_type](name, num_layers))
        decay = 0.0 if p.ndim == 1 or name.endswith(('.bias', 'pos_embed', 'cls_token')) else weight_decay or 0.0
        group = groups.setdefault((rate, decay), {'params': [], 'lr': rate, 'weight_decay': decay})
        group['params'].append(p)
    return list(groups.values())


GROUPINGS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    'DefaultOptimWrapperConstructor': parameter_groups,
    'LearningRateDecayOptimizerConstructor': layer_decay_groups}


class Updater:
    """Takes losses, makes steps: mixed precision, accumulation and clipping around an optimizer.

    Args:
        wrapper: the settings.
        optimizer: whose parameters are updated.
        device: where the model runs.
    """

    def __init__(self, wrapper: OptimWrapper, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.every = wrapper.accumulative_counts
        self.clip = dict(wrapper.clip_grad or {})
        self.device = device
        self.dtype: torch.dtype | None = None
        self.scaler = torch.amp.GradScaler(device.type, enabled=False)
        if isinstance(wrapper, AmpOptimWrapper):
            self.dtype = _amp_dtype(wrapper.dtype, device)
            scale = wrapper.loss_scale
            arguments = dict(scale) if isinstance(scale, Mapping) else {} if scale == 'dynamic' else \
                {'init_scale': float(scale), 'growth_interval': 2 ** 31 - 1}
            self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16, **arguments)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype else contextlib.nullcontext()

    def steps_at(self, iteration: int, total: int) -> bool:
        """Whether the gradients of `iteration` (from 0) complete a step."""
        return (iteration + 1) % self.every == 0 or iteration + 1 == total

    def backward(self, loss: Tensor, iteration: int, total: int) -> None:
        """Add the gradients of `loss`, as a share of its step's."""
        full = total - total % self.every
        share = self.every if iteration < full else total - full    # the last step may have fewer batches
        self.scaler.scale(loss / share if share > 1 else loss).backward()

    def step(self) -> Tensor | None:
        """Update the parameters and clear their gradients.

        Returns:
            The norm of the gradients before clipping, where they are clipped by norm.
        """
        norm = None
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _clip(self) -> Tensor | None:
        parameters = [p for g in self.optimizer.param_groups for p in g['params'] if p.grad is not None]
        kind = self.clip.get('type', 'value' if 'clip_value' in self.clip else 'norm')
        arguments = {k: v for k, v in self.clip.items() if k != 'type'}
        if kind == 'value':
            nn.utils.clip_grad_value_(parameters, **arguments)
            return None
        return nn.utils.clip_grad_norm_(parameters, **arguments) if parameters else None


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module, bool]]:
    """Each parameter once: its name, itself, its module, and whether that lies in a deformable convolution."""
    seen: set[int] = set()

    def walk(module: nn.Module, prefix: str, in_dcn: bool) -> Iterator[tuple[str, nn.Parameter, nn.Module, bool]]:
        for name, p in module.named_parameters(recurse=False):
            if id(p) not in seen:
                seen.add(id(p))
                yield f'{prefix}.{name}', p, module, in_dcn
        inside = in_dcn or 'DeformConv' in type(module).__name__
        for name, child in module.named_children():
            yield from walk(child, f'{prefix}.{name}' if prefix else name, inside)
    return walk(model, '', False)


def _layer_of(name: str, last: int) -> int:
    """The step of a ConvNeXt's parameter, counted from the input."""
    parts = name.split('.')
    if parts[0] != 'backbone':
        return last + 1
    if parts[1] in ('cls_token', 'mask_token', 'pos_embed'):
        return 0
    if parts[1] == 'downsample_layers':
        return (0, 2, 3, last)[int(parts[2])]
    if parts[1] == 'stages':
        return (1, 2, 3 + int(parts[3]) // 3, last)[int(parts[2])]
    return last + 1


def _stage_of(name: str, last: int) -> int:
    parts = name.split('.')
    if parts[0] != 'backbone':
        return last + 1
    if parts[1] in ('cls_token', 'mask_token', 'pos_embed', 'downsample_layers'):
        return 0
    return int(parts[2]) + 1 if parts[1] == 'stages' else last + 1


def _can_fuse(model: nn.Module) -> bool:
    return all(p.device.type in ('cpu', 'cuda') and p.is_floating_point() for p in model.parameters())


def _amp_dtype(name: str | None, device: torch.device) -> torch.dtype:
    if name is None:
        name = 'float16' if device.type == 'cuda' else 'bfloat16'
    if name not in ('float16', 'bfloat16'):
        raise ConfigError(f"optim_wrapper.dtype: {name!r} is neither 'float16' nor 'bfloat16'")
    return torch.float16 if name == 'float16' else torch.bfloat16
