"""`mmengine.fileio` and the file helpers of `mmcv`: local files."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from omnidet.errors import DatasetError


def load(file: Any, file_format: str | None = None, **kwargs: Any) -> Any:
    """The content of a json, yaml or pickle file. A pickle is read as data: nothing in it runs.

    Raises:
        DatasetError: the file is not there, damaged, of another kind, or a pickle of more than data.
    """
    path = Path(file)
    kind = (file_format or path.suffix.lstrip('.')).lower()
    if kind not in ('json', 'yaml', 'yml', 'pkl', 'pickle'):
        raise DatasetError(f'{path}: a file of json, yaml or pkl is wanted')
    try:
        if kind == 'json':
            return json.loads(path.read_bytes())
        if kind in ('yaml', 'yml'):
            return yaml.safe_load(path.read_text(encoding='utf-8'))
        from omnidet.checkpoints.unpickle import load as unpickle
        with path.open('rb') as f:
            return unpickle(f)
    except OSError as e:
        raise DatasetError(f'{path}: it cannot be read ({e.strerror or e})') from e
    except (ValueError, yaml.YAMLError, pickle.UnpicklingError, EOFError) as e:
        raise DatasetError(f'{path}: it cannot be read: {e}') from e


def dump(obj: Any, file: Any = None, file_format: str | None = None, **kwargs: Any) -> str | None:
    """Write `obj` as json, yaml or pickle; without a file, give the text."""
    kind = (file_format or (Path(file).suffix.lstrip('.') if file is not None else 'json')).lower()
    if kind in ('pkl', 'pickle'):
        Path(file).write_bytes(pickle.dumps(obj))
        return None
    text = json.dumps(obj, **kwargs) if kind == 'json' else yaml.safe_dump(obj, **kwargs)
    if file is None:
        return text
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text, encoding='utf-8')
    return None


def list_from_file(filename: Any, prefix: str = '', offset: int = 0, max_num: int = 0, encoding: str = 'utf-8',
                   **kwargs: Any) -> list[str]:
    """The lines of a text file, from `offset` on, at most `max_num` where it is not 0."""
    lines = [prefix + line for line in Path(filename).read_text(encoding=encoding).splitlines()][offset:]
    return lines[:max_num] if max_num else lines


def get(filepath: Any, backend_args: Any = None) -> bytes:
    """The bytes of a file."""
    return Path(filepath).read_bytes()


def get_text(filepath: Any, encoding: str = 'utf-8', backend_args: Any = None) -> str:
    """The text of a file."""
    return Path(filepath).read_text(encoding=encoding)


def exists(filepath: Any, backend_args: Any = None) -> bool:
    return Path(filepath).exists()


def isfile(filepath: Any, backend_args: Any = None) -> bool:
    return Path(filepath).is_file()


def isdir(filepath: Any, backend_args: Any = None) -> bool:
    return Path(filepath).is_dir()


def join_path(filepath: Any, *filepaths: Any, backend_args: Any = None) -> str:
    return str(Path(filepath).joinpath(*filepaths))


@contextlib.contextmanager
def get_local_path(filepath: Any, backend_args: Any = None) -> Iterator[str]:
    """The path of a file, which is local already."""
    yield str(filepath)


def mkdir_or_exist(dir_name: Any, mode: int = 0o777) -> None:
    if dir_name:
        Path(dir_name).mkdir(mode=mode, parents=True, exist_ok=True)


def scandir(dir_path: Any, suffix: str | tuple[str, ...] | None = None, recursive: bool = False,
            case_sensitive: bool = True) -> Iterator[str]:
    """The names of the files in a folder, relative to it."""
    root = Path(dir_path)
    for path in sorted(root.rglob('*') if recursive else root.iterdir()):
        name = path.name if case_sensitive else path.name.lower()
        if path.is_file() and (suffix is None or name.endswith(suffix)) and not path.name.startswith('.'):
            yield str(path.relative_to(root))


def check_file_exist(filename: Any, msg_tmpl: str = 'file "{}" does not exist') -> None:
    if not Path(filename).is_file():
        raise FileNotFoundError(msg_tmpl.format(filename))
