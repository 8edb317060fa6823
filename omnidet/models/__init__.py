"""Models: built from a config by `build_model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from omnidet.checkpoints import load_pretrained
from omnidet.config.custom_imports import explain
from omnidet.errors import ConfigError
from omnidet.registry import DETECTORS

__all__ = ['build_model']


def build_model(cfg: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """The model that a config describes.

    Args:
        cfg: a config with a `model`, or that part itself; never changed.
        pretrained: read the weights that `init_cfg` and `pretrained` name, downloading what is not on this machine;
            without it nothing is read. A part whose weights lie on a host that cannot be reached keeps its initial
            values, with a warning.

    Returns:
        The model in training mode, with `extract_feat`, `loss` and `predict`.

    Raises:
        ConfigError: no model, or an unknown part or argument.
    """
    model_cfg = cfg.get('model', cfg)
    if not isinstance(model_cfg, Mapping) or 'type' not in model_cfg:
        raise ConfigError(f'the config has no model: it needs model = dict(type=...); found the keys {sorted(cfg)}')
    try:
        model = DETECTORS.build(model_cfg)
    except ConfigError as e:
        why = explain(cfg) if 'there is no ' in str(e) else ''
        if why:    # a part may be missing because nobody imported it
            raise ConfigError(f'{e}\ncustom_imports: {why}') from e
        raise
    if pretrained:
        load_pretrained(model, model_cfg)
    return model
