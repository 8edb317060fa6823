"""`custom_imports`: the modules that a config wants imported before it is built."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnidet.errors import ConfigError

OURS = ('omnidet', 'mmdet', 'mmpretrain', 'mmcls', 'mmcv', 'mmengine')
"""Packages whose parts OmniDet has itself: there is nothing to import."""


def wanted(cfg: Mapping[str, Any]) -> list[str]:
    """The modules in `cfg.custom_imports` that are not ours and not imported yet.

    Raises:
        ConfigError: `custom_imports` is no dict with a list of names.
    """
    entry = cfg.get('custom_imports') or {}
    names = entry.get('imports', ()) if isinstance(entry, Mapping) else entry
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise ConfigError(f"custom_imports is a dict such as dict(imports=['my_parts']), not {entry!r}")
    return [n for n in names if n.partition('.')[0] not in OURS and n not in sys.modules]


def import_wanted(cfg: Mapping[str, Any]) -> None:
    """Import those modules, from the working directory too. They run: only for a config whose author is trusted.

    Raises:
        ConfigError: there is no such module, and `allow_failed_imports` is not set.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for name in wanted(cfg):
        try:
            importlib.import_module(name)
        except ImportError as e:
            if not cfg['custom_imports'].get('allow_failed_imports', False):
                raise ConfigError(f'custom_imports: {name} cannot be imported: {e}') from e
