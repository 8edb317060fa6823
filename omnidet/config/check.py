"""Holds a config against OmniDet's own parts. This is where the registries are asked, which import them (and torch)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omnidet.config.custom_imports import explain, wanted
from omnidet.config.forms import misshapen
from omnidet.config.nodes import Path
from omnidet.config.validate import Lookup, Problem, validate
from omnidet.errors import ConfigError

if TYPE_CHECKING:
    from omnidet.registry import Registry

log = logging.getLogger('omnidet')

_KINDS = {'norm_cfg': 'NORM_LAYERS', 'conv_cfg': 'CONV_LAYERS', 'act_cfg': 'ACTIVATIONS',
          'upsample_cfg': 'UPSAMPLE_LAYERS', 'pipeline': 'TRANSFORMS', 'transforms': 'TRANSFORMS',
          'dataset': 'DATASETS', 'optimizer': 'OPTIMIZERS', 'val_evaluator': 'METRICS', 'test_evaluator': 'METRICS',
          'backbone': 'BACKBONES', 'neck': 'NECKS', 'param_scheduler': 'PARAM_SCHEDULERS',
          'optim_wrapper': 'OPTIM_WRAPPERS', 'custom_hooks': 'HOOKS', 'train_cfg': 'LOOPS', 'val_cfg': 'LOOPS',
          'test_cfg': 'LOOPS', 'data_preprocessor': 'PREPROCESSORS', 'bbox_coder': 'CODERS', 'assigner': 'ASSIGNERS',
          'anchor_generator': 'PRIORS'}
"""The registry that a dict under this key is looked up in."""


def problems(cfg: Mapping[str, Any], find: Lookup | None = None) -> list[Problem]:
    """What `validate` finds, with OmniDet's registries as the lookup, or with another (see `validate`)."""
    if found := misshapen(cfg):
        return found
    found = validate(cfg, find or lookup, names)
    why = explain(cfg)
    if why and any(p.path.endswith('type') for p in found):
        found.insert(0, Problem('custom_imports', why))
    return found


def check(cfg: Mapping[str, Any]) -> None:
    """Refuse a config that could not be built, before anything is.

    Raises:
        ConfigError: it lists every unknown type, unknown argument and argument of the wrong kind.
    """
    found = problems(cfg)
    if not found and wanted(cfg):
        log.warning('custom_imports: %s. No part is missing, so the run goes on without', explain(cfg))
    _refuse(found)


def check_forms(cfg: Mapping[str, Any]) -> None:
    """Refuse a config whose entries are not the dicts, lists and numbers that every run takes them for.

    Raises:
        ConfigError: it lists them.
    """
    _refuse(misshapen(cfg))


def _refuse(found: Sequence[Problem]) -> None:
    if found:
        raise ConfigError('\n'.join(['the config has ' + (f'{len(found)} problems' if len(found) > 1 else 'a problem'),
                                     *(f'  {p}' for p in found)]))


def lookup(name: str, path: Path) -> Callable[..., Any] | None:
    """The part called `name` in the registry that fits the place, or else in any."""
    from omnidet.registry import find_anywhere
    registry = _registry(path)
    return (registry.find(name) if registry is not None else None) or find_anywhere(name)


def names(path: Path) -> Iterable[str]:
    """What could stand at `path`."""
    from omnidet.registry import KINDS, MODELS, TASK_UTILS
    registry = _registry(path)
    if registry is not None:
        return registry.names()
    kinds = (MODELS, TASK_UTILS) if path[0] == 'model' else KINDS
    return [name for kind in kinds for name in kind.names()]


def _registry(path: Path) -> Registry | None:
    from omnidet import registry
    key = next((k for k in reversed(path) if isinstance(k, str)), '')
    if path[:1] == ('model',) and key in ('train_cfg', 'test_cfg', 'dataset'):
        return None
    if key == 'sampler':
        return registry.SAMPLERS if path[0] == 'model' else registry.DATA_SAMPLERS
    return getattr(registry, _KINDS[key]) if key in _KINDS else None
