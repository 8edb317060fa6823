"""Imports the users' own modules, and takes them along to worker processes."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import logging
import sys
import sysconfig
import traceback
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from omnidet.compat.finder import PACKAGES, install, is_alias
from omnidet.errors import OmniDetError

log = logging.getLogger('omnidet')

PLACES = {'PIPELINES': 'mmdet.datasets.pipelines', 'TRANSFORMS': 'mmdet.datasets.pipelines',
          'DATASETS': 'mmdet.datasets', 'HOOKS': 'mmdet.core.hook'}
"""Where in MMDetection a file belongs, by a name that it imports from beside itself; else among the necks."""

_imported: list[str] = []
_warned: list[str] = []


def import_user_code(name: str, asked_by: str) -> None:
    """Import a module from the working directory or the environment; it runs.

    Modules that import from MMDetection get OmniDet's counterparts (`install`). A single file that was written to lie
    inside MMDetection (`from ..builder import NECKS`) is imported as if it lay there.

    Args:
        name: 'my_parts', 'pkg.parts', or a file 'dir/my_parts.py'.
        asked_by: what asks for it, as messages say it: '--import'.

    Raises:
        OmniDetError: there is no such module, or it cannot be imported; the message names the file and line.
    """
    install()
    where = f'{asked_by} {name}'
    folder, module = Path.cwd(), name
    if name.endswith('.py'):
        file = Path(name).resolve()
        if not file.is_file():
            raise OmniDetError(f'{where}: there is no such file')
        folder, module = file.parent, file.stem
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        if not _import_as_part_of_mmdet(module):
            importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is not None and f'{module}.'.startswith(f'{e.name}.'):
            raise OmniDetError(f'{where}: there is no such module in {folder} or among the installed ones') from e
        raise OmniDetError(f'{where}: {place(e)}it imports {e.name}, which is not installed') from e
    except OmniDetError as e:
        raise OmniDetError(f'{where}: {place(e)}{e}') from e
    except Exception as e:
        raise OmniDetError(f'{where}: {place(e)}{type(e).__name__}: {e}') from e
    _warn_of_real_packages(where)
    entry = str(folder / f'{module}.py') if name.endswith('.py') else name
    if entry not in _imported:
        _imported.append(entry)


def _warn_of_real_packages(where: str) -> None:
    """Say that MMDetection's own registries are not ours, where its packages are installed and were imported."""
    real = [p for p in PACKAGES if p in sys.modules and not is_alias(p)]
    if real and not _warned:
        _warned.append(where)
        log.warning('%s: %s is installed here and left alone, so OmniDet knows nothing of what is registered with its '
                    'registries; import from omnidet.registry, or run where it is not installed', where, real[0])


def _import_as_part_of_mmdet(module: str) -> bool:
    """Import a single file that has relative imports as the module of MMDetection that it is written to be."""
    spec = None if '.' in module else PathFinder.find_spec(module)
    file = Path(spec.origin) if spec is not None and spec.origin else None
    if file is None or file.suffix != '.py' or spec is None or spec.submodule_search_locations:
        return False
    beside = _imported_from_beside(file)
    if not beside or not is_alias('mmdet'):
        return False
    parts = file.parent.parts
    if 'mmdet' in parts:
        last = len(parts) - 1 - parts[::-1].index('mmdet')
        package = '.'.join(parts[last:])
    else:
        package = next((p for n, p in PLACES.items() if n in beside), 'mmdet.models.necks')
    full = f'{package}.{module}'
    if full in sys.modules:
        return True
    parent = importlib.import_module(package)
    if str(file.parent) not in parent.__path__:
        parent.__path__.append(str(file.parent))    # for `from .my_layers import ...`
    made = importlib.util.spec_from_file_location(full, file)
    assert made is not None and made.loader is not None
    sys.modules[full] = sys.modules[module] = loaded = importlib.util.module_from_spec(made)
    try:
        made.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[full], sys.modules[module]
        raise
    return True


def _imported_from_beside(file: Path) -> set[str]:
    """The names that a file imports by relative imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()    # importing it says what is wrong
    return {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level
            for alias in node.names}


def place(e: Exception) -> str:
    """`'my_parts.py:3: '` for the last line of the user's that an error came through."""
    for frame in reversed(traceback.extract_tb(e.__traceback__)):
        if not frame.filename.startswith('<') and not _is_machinery(frame.filename):
            return f'{frame.filename}:{frame.lineno}: '
    if isinstance(e, SyntaxError) and e.filename:
        return f'{e.filename}:{e.lineno}: '
    return ''


def _is_machinery(filename: str) -> bool:
    """Whether a file is OmniDet's, Python's own, or of an installed package."""
    paths = sysconfig.get_paths()
    return filename.startswith((str(Path(__file__).parents[1]), *(paths[k] for k in ('stdlib', 'purelib', 'platlib'))))


# ---------------------------------------------------------------------------------------- in worker processes

class Luggage:
    """An object on its way to another process, which imports the user's modules before it unpickles it."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (_Modules(list(_imported), list(sys.path)), self.content)


class _Modules:
    """Imports modules as it is unpickled; what is pickled after it may need them."""

    def __init__(self, names: list[str], path: list[str]) -> None:
        self.names, self.path = names, path

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.names, self.path)


def _arrive(names: list[str], path: list[str]) -> None:
    sys.path[:] = [*sys.path, *(p for p in path if p not in sys.path)]
    for name in names:
        import_user_code(name, 'in a worker process: --import')


def _unpacked(modules: None, content: Any) -> Any:
    return content


def for_workers(dataset: Any) -> Any:
    """`dataset` in a form that a process which starts anew can unpickle; itself where nothing was imported."""
    return Packed(dataset) if _imported else dataset


class Packed:
    """A data set that takes the user's modules along.

    Args:
        dataset: what it hands on.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        return self.dataset[key]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {'dataset': Luggage(self.dataset)}
