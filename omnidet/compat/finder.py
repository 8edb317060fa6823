"""Makes the names of OpenMMLab's packages importable: modules whose attributes come from the table."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from omnidet.compat.missing import CompatError, stand_in
from omnidet.compat.table import INSTEAD, OWN_FILES, TABLE, VERSIONS
from omnidet.errors import did_you_mean

PACKAGES = ('mmdet', 'mmengine', 'mmcv', 'mmcls', 'mmpretrain')


def install() -> tuple[str, ...]:
    """Make the packages importable that are not really installed; a second call changes nothing.

    Where one is installed, nothing of it is shadowed: code that imports it gets the real one. A folder `mmdet` on the
    path without what it needs, as a clone of MMDetection is, cannot be imported and is no installation; files in it
    that are not MMDetection's own are then imported as the modules that they are there.

    Returns:
        The packages that lead to OmniDet.
    """
    for finder in sys.meta_path:
        if isinstance(finder, AliasFinder):
            return finder.packages
    real = {name for name in PACKAGES if _is_real(name)}
    finder = AliasFinder(tuple(name for name in PACKAGES if name not in real))
    sys.meta_path.insert(0, finder)
    return finder.packages


def is_alias(package: str) -> bool:
    """Whether `package` leads to OmniDet at present."""
    return any(isinstance(f, AliasFinder) and package.partition('.')[0] in f.packages for f in sys.meta_path)


def _is_real(name: str) -> bool:
    """Whether a package is installed, or imported already. All of them need addict, which a mere clone lacks."""
    if name in sys.modules:
        return True
    return importlib.util.find_spec(name) is not None and importlib.util.find_spec('addict') is not None


class AliasFinder(MetaPathFinder, Loader):
    """Finds the modules of `packages`: those of the table, and files of the user's that lie among them."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = fullname.partition('.')
        if package not in self.packages:
            return None
        if not is_known(fullname) and rest.rpartition('.')[2] not in OWN_FILES:
            own = PathFinder.find_spec(fullname, path)
            if own is not None and own.loader is not None:
                return own
        spec = ModuleSpec(fullname, self, is_package=True)
        spec.submodule_search_locations = _folders(fullname)
        return spec

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        module.__doc__ = f"OmniDet's counterparts of what {name} holds."
        module.__dict__['__getattr__'] = lambda attribute: _attribute(module, attribute)
        module.__dict__['__dir__'] = lambda: sorted({*module.__dict__, *row_of(name)})
        if name in TABLE:
            module.__dict__['__all__'] = sorted(TABLE[name])
        if name in VERSIONS:
            module.__dict__['__version__'] = VERSIONS[name]


def is_known(module: str) -> bool:
    """Whether the table has `module`, or a module within it."""
    return module in TABLE or any(known.startswith(f'{module}.') for known in TABLE)


def row_of(module: str) -> dict[str, str]:
    """The names of a module; those of `mmcv.cnn` hold for every module within it."""
    while module and module not in TABLE:
        module = module.rpartition('.')[0]
    return TABLE.get(module, {})


def load(target: str) -> Any:
    """The object that `package.module:name` means, or the module that `package.module` means."""
    home, _, name = target.partition(':')
    found = importlib.import_module(home)
    return getattr(found, name) if name else found


def _attribute(module: types.ModuleType, name: str) -> Any:
    """What `from module import name` gives; it is kept in the module.

    Raises:
        CompatError: there is no counterpart, with what is near or what to use instead.
        AttributeError: the same for names that Python itself asks modules for.
    """
    if name.startswith('__'):
        raise AttributeError(f'module {module.__name__} has no attribute {name!r}')
    value = _resolve(module.__name__, name)
    module.__dict__[name] = value
    return value


def _resolve(module: str, name: str) -> Any:
    row = row_of(module)
    if name in row:
        return load(row[name])
    inner = f'{module}.{name}'
    if is_known(inner) or inner in sys.modules or _is_file_of_user(inner):
        return importlib.import_module(inner)
    if name in INSTEAD:
        return stand_in(module, name, INSTEAD[name])
    from omnidet.registry import find_anywhere
    part = find_anywhere(name)
    if part is not None:
        return part
    raise CompatError(f'{module} has no {name!r} here{_hint(module, name, row)}')


def _is_file_of_user(fullname: str) -> bool:
    parent = sys.modules.get(fullname.rpartition('.')[0])
    path = getattr(parent, '__path__', None)
    if path is None or fullname.rpartition('.')[2] in OWN_FILES:
        return False
    spec = PathFinder.find_spec(fullname, path)
    return spec is not None and spec.loader is not None


def _hint(module: str, name: str, row: Iterable[str]) -> str:
    package = module.partition('.')[0]
    elsewhere = sorted((m for m, names in TABLE.items() if name in names), key=lambda m: m.partition('.')[0] != package)
    if elsewhere:
        return f'; it is in {" and ".join(elsewhere[:2])}'
    known = {*row, *INSTEAD}
    return did_you_mean(name, known) or ('. OmniDet has no counterpart of it: write what you need in your own file, or '
                                         f'see docs/compat.md for what {package} leads to')


def _folders(fullname: str) -> list[str]:
    """The folder of `fullname` in a clone that lies on the path, if there is one: files of the user's may be there."""
    parts = fullname.split('.')
    return [str(folder) for entry in sys.path if (folder := Path(entry or '.', *parts)).is_dir()][:1]
