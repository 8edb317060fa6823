"""`mmengine.config` and `mmcv.Config`: OmniDet's config under their calls."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnidet.config import load_config, nodes
from omnidet.config.dump import dump
from omnidet.config.meter import Meter
from omnidet.config.nodes import ConfigDict, Origins
from omnidet.config.overrides import override

__all__ = ['Config', 'ConfigDict', 'DictAction']


class Config(nodes.Config):
    """A whole experiment. What `fromfile` gives is in the form of MMDetection 3.x, whatever the file's."""

    __slots__ = ()

    @staticmethod
    def fromfile(filename: Any, use_predefined_variables: bool = True, import_custom_modules: bool = True,
                 **kwargs: Any) -> Config:
        """Read a config file or a name of the zoo; its `custom_imports` are left to whoever trusts them."""
        cfg = load_config(filename)
        return Config(cfg, cfg.filename, cfg.origins)

    def merge_from_dict(self, options: Mapping[str, Any], allow_list_keys: bool = True) -> None:
        """Set {'model.neck.out_channels': 96, ...}."""
        override(self, options, Origins(), Meter())

    @property
    def pretty_text(self) -> str:
        """The config as a file has it."""
        return dump(self)

    @property
    def text(self) -> str:
        return dump(self)

    def dump(self, file: Any = None) -> str | None:
        """Write the config to a file; without one, give its text."""
        if file is None:
            return dump(self)
        Path(file).write_text(dump(self), encoding='utf-8')
        return None

    @property
    def _cfg_dict(self) -> ConfigDict:
        return self


class DictAction(argparse.Action):
    """`nargs='+', action=DictAction`: KEY=VALUE arguments as a dict, for `merge_from_dict`."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        from omnidet.config.overrides import parse_value
        given = dict(getattr(namespace, self.dest, None) or {})
        for text in [values] if isinstance(values, str) else values:
            key, equals, value = text.partition('=')
            if not equals:
                parser.error(f'{option_string} {text}: an option is written key=value')
            given[key.strip()] = parse_value(value.strip(), key, Origins(), Meter())
        setattr(namespace, self.dest, given)
