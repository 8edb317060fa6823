"""`custom_imports`: the modules that a config wants imported before it is built."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnidet.errors import ConfigError

OURS = ('omnidet', 'mmdet', 'mmpretrain', 'mmcls', 'mmcv', 'mmengine')
"""Packages whose parts OmniDet has itself: there is nothing to import."""


def wanted(cfg: Mapping[str, Any]) -> list[str]:
    """The modules in `cfg.custom_imports` that are not ours and not imported yet.

    A file of the user's in a folder `mmdet` of the working directory, where a clone of MMDetection has one, is the
    user's; MMDetection's own files are ours.

    Raises:
        ConfigError: `custom_imports` is no dict with a list of names.
    """
    return [n for n in _names(cfg) if (_package(n) not in OURS or _is_user_file(n)) and n not in sys.modules]


def import_wanted(cfg: Mapping[str, Any]) -> None:
    """Import those modules, from the working directory too. They run: only for a config whose author is trusted.

    Raises:
        ConfigError: there is no such module, or it cannot be imported, and `allow_failed_imports` is not set.
    """
    names = wanted(cfg)
    if not names:
        return
    from omnidet.compat.user_code import import_user_code
    from omnidet.errors import OmniDetError
    for name in names:
        try:
            import_user_code(name, 'custom_imports:')
        except OmniDetError as e:
            entry = cfg['custom_imports']
            if isinstance(entry, Mapping) and entry.get('allow_failed_imports', False):
                continue
            hint = f'. {_about_project(name)}' if _is_foreign_project(name) else ''
            raise ConfigError(f'{e}{hint}') from e


def explain(cfg: Mapping[str, Any]) -> str:
    """Why parts of the user's may be missing: what `custom_imports` names, why it is not imported, and what to type.

    Returns:
        A sentence; an empty text where nothing is left to import.
    """
    missing = wanted(cfg)
    projects = [n for n in missing if _is_foreign_project(n)]
    missing = [n for n in missing if n not in projects]
    said = [_about_project(n) for n in projects]
    if missing:
        flags = ' '.join(f'--import {n}' for n in missing)
        said.append(f'{", ".join(missing)} would be imported, which runs code; a config is data and runs nothing by '
                    f'itself. Type {flags} to import {"them" if len(missing) > 1 else "it"}, or --trust for all that '
                    'the config asks for (trust=True of load_config)')
    elsewhere = [n for n in _names(cfg) if _package(n) in OURS and n not in missing and _may_be_the_users(n)]
    if elsewhere and not missing:
        said.append(f'{", ".join(elsewhere)} is no module of MMDetection that OmniDet knows; if it is a file that '
                    f'you put among its own, name the file: --import path/to/{elsewhere[0].rpartition(".")[2]}.py')
    return '. '.join(said)


def _names(cfg: Mapping[str, Any]) -> list[str]:
    entry = cfg.get('custom_imports') or {}
    names = entry.get('imports', ()) if isinstance(entry, Mapping) else entry
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise ConfigError(f"custom_imports is a dict such as dict(imports=['my_parts']), not {entry!r}")
    return list(names)


def _package(name: str) -> str:
    return name.partition('.')[0]


def _is_file(name: str) -> bool:
    """Whether a module lies in the working directory."""
    path = Path(*name.split('.'))
    return path.with_suffix('.py').is_file() or path.is_dir()


def _is_user_file(name: str) -> bool:
    """Whether a module of MMDetection's packages is a file of the user's in a clone of it."""
    return _may_be_the_users(name) and _is_file(name)


def _may_be_the_users(name: str) -> bool:
    """Whether MMDetection has no such module, as far as the table of names knows."""
    if '.' not in name or _package(name) == 'omnidet':
        return False
    from omnidet.compat.finder import is_known
    from omnidet.compat.table import OWN_FILES
    return not is_known(name) and name.rpartition('.')[2] not in OWN_FILES


def _is_foreign_project(name: str) -> bool:
    return _package(name) == 'projects' and not _is_file(name)


def _about_project(name: str) -> str:
    return (f'{name} is one of the projects that lie beside MMDetection in its repository; its parts are not among '
            f"OmniDet's, and there is no {name.replace('.', '/')}.py or folder here. With the folder projects of a "
            f'clone in the working directory, --import {name} imports it')
