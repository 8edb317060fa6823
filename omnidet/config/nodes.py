"""What a loaded config is made of: dicts with attribute access, and the table of where every value came from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from omnidet.config.upgrade.changes import Change

Path = tuple['str | int', ...]


class Origin(NamedTuple):
    """Where a value was written.

    Args:
        file: path of the config file, or the name of another source (`--cfg-options`).
        line: line number from 1; 0 where the source has no lines.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f'{self.file}:{self.line}' if self.line else self.file


class ConfigDict(dict[Any, Any]):
    """A dict whose items are attributes too. Dicts put into it become `ConfigDict`, however deep in lists they lie.

    `update` is deep, as users of MMDetection know it: where both sides have a dict, the two are merged.
    """

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ', '.join(map(str, self)) or 'nothing'
            raise AttributeError(f'this config has no {name!r}; it has {known}') from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f'this config has no {name!r}') from None

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, as_config(value))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:    # type: ignore[override]
        for key, value in dict(*args, **kwargs).items():
            old = self.get(key)
            if isinstance(old, ConfigDict) and isinstance(value, dict):
                old.update(value)
            else:
                self[key] = value

    def __ior__(self, other: Any) -> ConfigDict:    # type: ignore[override,misc]
        self.update(other)
        return self

    def copy(self) -> ConfigDict:
        """A shallow copy."""
        return ConfigDict(self)

    def to_dict(self) -> dict[str, Any]:
        """A deep copy in plain dicts, lists and tuples."""
        return _plain(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


class Config(ConfigDict):
    """A whole experiment: a `ConfigDict` that knows the file it was loaded from and where each value came from.

    Attributes:
        filename: path of the file, an empty string where there is none.
        origins: {path of keys and indices: Origin}, for dicts and lists as well as for leaves.
        changes: what was changed in a config of MMDetection 2.x; nothing for one of 3.x.
    """

    __slots__ = ('changes', 'filename', 'origins')
    filename: str
    origins: dict[Path, Origin]
    changes: tuple[Change, ...]

    def __init__(self, items: Mapping[str, Any] | None = None, filename: str = '',
                 origins: Mapping[Path, Origin] | None = None, changes: Iterable[Change] = ()) -> None:
        object.__setattr__(self, 'filename', filename)
        object.__setattr__(self, 'origins', dict(origins or {}))
        object.__setattr__(self, 'changes', tuple(changes))
        super().__init__(items or {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Config.__slots__:
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def origin(self, path: Path) -> Origin | None:
        """Where the value at `path` was written: its own place, or that of the nearest dict or list around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return None

    def copy(self) -> Config:
        return Config(self, self.filename, self.origins, self.changes)

    def __reduce__(self) -> tuple[Any, ...]:
        return Config, (dict(self), self.filename, self.origins, self.changes)


def as_config(value: Any) -> Any:
    """`value` with every plain dict in it turned into a ConfigDict; lists without any are kept as they are."""
    if type(value) is dict:
        return ConfigDict(value)
    if type(value) in (list, tuple):
        items = [as_config(v) for v in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return items if type(value) is list else tuple(items)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(v) for v in value)
    return value


def children(value: Any) -> Collection[tuple[Any, Any]]:
    """(key or index, item) of a dict, list or tuple; nothing for anything else."""
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return ()


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value in a nest of dicts, lists and tuples with its path, outer before inner."""
    yield path, value
    for key, item in children(value):
        yield from walk(item, (*path, key))


def dotted(path: Path) -> str:
    """A path as users write it: `model.neck.out_channels`."""
    return '.'.join(map(str, path))


class Origins:
    """Where the keys of dicts, and dicts and lists themselves, were written, kept beside the data while files are read.

    Lists are marked as a whole: their items move when a list is changed, a dict's keys do not.
    """

    def __init__(self) -> None:
        # by the id of a container, which is held too, so that no other takes its id
        self._keys: dict[int, tuple[Any, dict[Any, Origin]]] = {}
        self._born: dict[int, tuple[Any, Origin]] = {}

    def born(self, container: Any, origin: Origin) -> Any:
        """Note where `container` was written; gives it back."""
        self._born[id(container)] = container, origin
        return container

    def mark(self, container: dict[Any, Any], key: Any, origin: Origin) -> None:
        """Note where `container[key]` was set."""
        self._keys.setdefault(id(container), (container, {}))[1][key] = origin

    def inherit(self, copy: Any, source: Any) -> None:
        """What is known of `source` holds for `copy` too."""
        if id(source) in self._born:
            self._born[id(copy)] = copy, self._born[id(source)][1]
        if id(source) in self._keys:
            self._keys.setdefault(id(copy), (copy, {}))[1].update(self._keys[id(source)][1])

    def of(self, container: Any, key: Any) -> Origin | None:
        """Where `container[key]` was written, or None."""
        if isinstance(container, dict):
            return self._keys.get(id(container), (None, {}))[1].get(key)
        return self._born.get(id(container[key]), (None, None))[1]

    def table(self, root: dict[str, Any]) -> dict[Path, Origin]:
        """{path: Origin} of everything in `root` whose place is known; a value in a list has the list's place."""
        out: dict[Path, Origin] = {}

        def visit(value: Any, path: Path, around: Origin | None) -> None:
            for key, item in children(value):
                origin = self.of(value, key) or around
                place = (*path, key)
                if origin is not None:
                    out[place] = origin
                visit(item, place, self._born.get(id(item), (None, origin))[1])
        visit(root, (), None)
        return out
