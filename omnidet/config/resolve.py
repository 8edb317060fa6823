"""From the name of a config to its file: in the working directory, beside the file that names it, or in our zoo."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from omnidet.errors import ConfigError

ZOO = Path(__file__).resolve().parent.parent / 'configs'
SUFFIXES = ('.py', '.json', '.yaml', '.yml')
SCOPES = ('mmdet', 'omnidet')
NAMES_2X = Path(__file__).with_name('names_2x.txt')
"""What configs of MMDetection's 2.x zoo are called in the 3.x zoo, one in each line; `docs/upgrades.py` writes it."""


def find_config(name: str | Path, named_in: Path | None = None) -> Path:
    """The file that `name` stands for.

    Args:
        name: a path, or the name of a zoo config: `rtmdet/rtmdet_tiny_8xb32-300e_coco`, with or without extension, or a
            beginning of it that fits no other; the prefixes `mmdet::` and `omnidet::` mean the zoo alone.
        named_in: the file that holds the name. A path is looked for in the working directory, then in that file's
            folder and up its tree, then in the zoo.

    Raises:
        ConfigError: there is none, or several fit; the message lists the candidates.
    """
    text = str(name)
    scope, mark, rest = text.partition('::')
    if mark:
        if scope not in SCOPES:
            raise ConfigError(f'{text}: there is no zoo {scope!r}; the prefixes are mmdet:: and omnidet::')
        return find_in_zoo(rest)
    path = Path(text)
    with contextlib.suppress(RuntimeError):    # there is no such user
        path = path.expanduser()
    for folder in (Path(), *(named_in.resolve().parents if named_in else ())):
        if is_file(folder / path):
            return folder / path
    if is_folder(path):
        raise ConfigError(f'{text} is a folder; name a config file in it{_listing(p.name for p in _configs_in(path))}')
    return find_in_zoo(text, beside=path.parent)


def find_base(name: str, named_in: Path) -> Path:
    """The file that `_base_ = name` in the file `named_in` stands for: its own folder comes first.

    Raises:
        ConfigError: there is none.
    """
    beside = Path(os.path.normpath(named_in.parent / name))    # a/../b is b in messages
    if '::' not in name and is_file(beside):
        return beside
    return find_config(name, named_in)


def find_in_zoo(name: str, beside: Path | None = None) -> Path:
    """The zoo's config with this name, alias or unambiguous beginning of a name.

    Args:
        name: as in `find_config`; leading `../` and `configs/` are dropped.
        beside: a folder whose configs are proposed too where nothing is found.

    Raises:
        ConfigError: none fits, or several do.
    """
    wanted = key(re.sub(r'^(\.{0,2}/)*(configs/)?', '', name.replace('\\', '/')))
    zoo = _zoo()
    for known in (wanted, _names_2x().get(wanted)):
        if known in zoo:
            return zoo[known]
    fitting = {k: p for k, p in zoo.items() if wanted and _fits(k, wanted) and '_base_/' not in k}
    # `rtmdet_x` is rtmdet_x with its batch (_8xb32) or schedule (_1x, _20e, _90k), not a beginning of rtmdet_x_p6
    whole = {k: p for k, p in fitting.items() if re.match(r'_\d+(xb?\d+|[xke])', k[k.index(wanted) + len(wanted):])}
    for found in (fitting, whole):
        if len(found) == 1:
            return next(iter(found.values()))
    if fitting:
        raise ConfigError(f'{name!r} may be any of {", ".join(sorted(_name(p) for p in fitting.values()))}; '
                          'write more of the one that is meant')
    near = _proposals(name, wanted, beside)
    raise ConfigError(f'there is no config {name!r}, neither as a file nor in the zoo{near}')


def zoo_names() -> list[str]:
    """The names of all configs of our zoo, parts that are only inherited from left out."""
    return sorted(_name(p) for k, p in _zoo().items() if '_base_' not in k)


def check_suffix(path: Path) -> Path:
    """`path`, if it has the extension of a config.

    Raises:
        ConfigError: it has another.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f'{path}: a config is a file with one of the extensions {", ".join(SUFFIXES)}')
    return path


def is_file(path: Path) -> bool:
    """`path.is_file()`, where a name that no file can have is no file."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """`path.is_dir()`, where a name that no folder can have is no folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


@lru_cache
def _zoo() -> dict[str, Path]:
    return {key(_name(p)): p for p in sorted(ZOO.rglob('*')) if p.suffix in SUFFIXES}


@lru_cache
def _names_2x() -> dict[str, str]:
    lines = NAMES_2X.read_text(encoding='utf-8').splitlines()
    return {key(old): key(new) for old, new in map(str.split, lines)}


def _name(path: Path) -> str:
    return path.relative_to(ZOO).with_suffix('').as_posix()


def key(name: str) -> str:
    """What the spellings of a zoo name have in common: 2.x and module names have `_` for `-`, `mstrain` for `ms`."""
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return re.sub('mstrain', 'ms', name.replace('-', '_').lower())


def _fits(key: str, wanted: str) -> bool:
    return key.startswith(wanted) or key.rpartition('/')[2].startswith(wanted)


def _configs_in(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    except OSError:
        return []


def _proposals(name: str, wanted: str, beside: Path | None) -> str:
    zoo = {k: _name(p) for k, p in _zoo().items() if '_base_' not in k}
    tails = {k.rpartition('/')[2]: n for k, n in zoo.items()}
    near = [zoo.get(k) or tails[k] for k in difflib.get_close_matches(wanted, [*zoo, *tails], n=3, cutoff=0.4)]
    files = {p.name: str(p) for p in _configs_in(beside)} if beside is not None else {}
    near = [files[f] for f in difflib.get_close_matches(Path(name).name, files, n=3, cutoff=0.6)] + near
    return f'; near are {", ".join(dict.fromkeys(near))}' if near else ''


def _listing(names: Iterable[str]) -> str:
    some = list(names)[:5]
    return f', such as {", ".join(some)}' if some else ''
