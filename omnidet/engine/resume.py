"""Trainings that MMEngine (MMDetection 3.x) or mmcv (2.x) left, as ours go on from them.

Their optimizers number the parameters by the order of the model that wrote the file, which is the order of the names in
its `state_dict`; ours number them by groups of equal settings. So the state of each parameter is carried over by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omnidet.checkpoints.checkpoint import DERIVED, fitted
from omnidet.errors import CheckpointError

KINDS = ('betas', 'momentum', 'alpha', 'rho')
"""Settings that tell one kind of optimizer from another."""


def is_foreign(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is not of our own trainings."""
    return 'omnidet_version' not in checkpoint['meta']


def as_ours(checkpoint: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer,
            source: str) -> dict[str, Any]:
    """A checkpoint of MMEngine or mmcv in the form in which `Run.save` writes them.

    Settings of the optimizer are the config's, not the file's; schedules have no state.

    Args:
        checkpoint: what `load_checkpoint` gave, with an optimizer.
        model: the model that goes on.
        optimizer: over its parameters.
        source: what a message calls the checkpoint.

    Returns:
        `meta`, `state_dict`, `optimizer`; `ema_state_dict` where there is an average; `loss_scaler` where it has one.

    Raises:
        CheckpointError: the optimizer is of another kind, or its parameters are not the model's.
    """
    meta = dict(checkpoint['meta'])
    own = model.state_dict()
    state = fitted(checkpoint['state_dict'], own, source)
    out: dict[str, Any] = {'meta': meta, 'state_dict': {**_derived(own, state), **state}}
    raw = _trained_weights(checkpoint, state, own, source)
    if raw is not None:
        out['ema_state_dict'] = {'steps': _steps(checkpoint), **{f'module.{k}': v for k, v in raw.items()}}
    theirs = checkpoint['optimizer']
    out['optimizer'] = _optimizer_state(theirs, list(state), model, optimizer, source)
    scaler = theirs.get('loss_scaler') or (meta.get('fp16') or {}).get('loss_scaler')
    if isinstance(scaler, dict) and 'scale' in scaler:
        out['loss_scaler'] = dict(scaler)
    return out


def best_of(checkpoint: Mapping[str, Any], wanted: list[str]) -> dict[str, tuple[float, str]]:
    """The best scores that MMEngine or mmcv noted, with the names of the files that hold those weights.

    Args:
        checkpoint: what `load_checkpoint` gave.
        wanted: the metrics that are asked for.
    """
    hub = checkpoint.get('message_hub')
    notes = hub.get('runtime_info') if isinstance(hub, dict) else checkpoint['meta'].get('hook_msgs')
    if not isinstance(notes, dict):
        return {}
    found = {}
    for key in wanted:
        suffix = '' if len(wanted) == 1 else f'_{key}'
        score, path = notes.get(f'best_score{suffix}'), notes.get(f'best_ckpt{suffix}')
        if isinstance(score, Tensor) and score.numel() == 1:
            score = score.item()
        if path and isinstance(score, (int, float, np.number)):
            found[key] = float(score), str(path).replace('\\', '/').rpartition('/')[2]
    return found


def _derived(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Buffers that an older file may lack, since the model's shape implies them."""
    return {k: v for k, v in own.items() if k not in state and k.endswith(DERIVED)}


def _trained_weights(checkpoint: Mapping[str, Any], state: Mapping[str, Tensor], own: Mapping[str, Tensor],
                     source: str) -> dict[str, Tensor] | None:
    """The weights behind an average: in 3.x a second state dict, in 2.x buffers like `ema_conv1_weight`."""
    second = checkpoint.get('ema_state_dict')
    if isinstance(second, dict):
        raw = fitted({k: v for k, v in second.items() if k != 'steps'}, own, source)
        return {**_derived(own, raw), **raw}
    flat = {f'ema_{name.replace(".", "_")}': name for name in checkpoint['state_dict']}
    copies = {name: checkpoint['state_dict'][k] for k, name in flat.items() if k in checkpoint['state_dict']}
    if not copies:
        return None
    return {**_derived(own, state), **state, **fitted(copies, own, source)}


def _steps(checkpoint: Mapping[str, Any]) -> Tensor:
    """How often the average was updated; 2.x counts iterations."""
    steps = (checkpoint.get('ema_state_dict') or {}).get('steps')
    return torch.as_tensor(checkpoint['meta']['iter'] if steps is None else steps)


def _optimizer_state(theirs: Any, names: list[str], model: nn.Module, optimizer: torch.optim.Optimizer,
                     source: str) -> dict[str, Any]:
    """The optimizer's state under our numbers; see the module's docstring.

    Args:
        theirs: the file's `optimizer`.
        names: of the file's weights, in its order.
    """
    def refuse(why: str) -> CheckpointError:
        return CheckpointError(f'{source}: its optimizer does not continue this run: {why}. Begin with its weights by '
                               '--load-from')
    groups = theirs.get('param_groups') if isinstance(theirs, dict) else None
    if not isinstance(groups, list) or not all(isinstance(g, dict) and isinstance(g.get('params'), list)
                                               for g in groups):
        raise refuse('it has no groups of parameters')
    ours = optimizer.state_dict()
    kinds = [', '.join(k for k in KINDS if k in g) or 'none of them' for g in (*groups[:1], ours['param_groups'][0])]
    if len(set(kinds)) > 1:
        raise refuse(f'it is of another kind (of the settings {", ".join(KINDS)}, it has {kinds[0]}, the config\'s '
                     f'optimizer {kinds[1]})')
    numbers = [n for g in groups for n in g['params']]
    parameters = dict(model.named_parameters())
    if all('param_names' in g for g in groups):    # by MMDetection's decay of rates from layer to layer
        of_file = [str(n) for g in groups for n in g['param_names']]
        today = {old: new for new, old in fitted({n: n for n in of_file}, parameters, source).items()}
        ordered = [today.get(n, n) for n in of_file]
    elif len(groups) == 1 or all(len(g['params']) == 1 for g in groups):
        ordered = [n for n in names if n in parameters]
    else:
        raise refuse(f'its {len(groups)} groups of several parameters do not say which these are')
    if len(ordered) != len(numbers):
        raise refuse(f'it has {len(numbers)} parameters, the model {len(ordered)}')
    name_of = {id(p): name for name, p in parameters.items()}
    number_of = {name_of[id(p)]: n for g, numbered in zip(optimizer.param_groups, ours['param_groups'], strict=True)
                 for p, n in zip(g['params'], numbered['params'], strict=True)}
    state = {}
    for name, n in zip(ordered, numbers, strict=True):
        values = theirs.get('state', {}).get(n)
        if values is None or name not in number_of:
            continue
        for key, value in values.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameters[name].shape:
                raise refuse(f'{key} of {name} has the shape {tuple(value.shape)}, the parameter '
                             f'{tuple(parameters[name].shape)}')
        state[number_of[name]] = dict(values)
    return {'state': state, 'param_groups': ours['param_groups']}
