"""What all parts of an upgrade hold in their hands: the config, where its values were written, and what was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from omnidet.config.merge import DELETE, combine, own
from omnidet.config.meter import Meter, Refusal
from omnidet.config.nodes import ConfigDict, Origins
from omnidet.config.upgrade.changes import Changes
from omnidet.errors import ConfigError, did_you_mean


@dataclass
class Work:
    """One upgrade.

    Attributes:
        cfg: the experiment, with entries of 2.x and, where it inherits from a file of 3.x, entries of that too.
        origins: where its values were written.
        file: the config file; relative paths in it may start in its folder.
        changes: what was done so far.
    """

    cfg: ConfigDict
    origins: Origins
    file: Path
    changes: Changes = field(default_factory=Changes)

    def take(self, key: str) -> Any:
        """Remove a top-level entry and give it; None where there is none."""
        return self.cfg.pop(key, None)

    def settings(self, key: str) -> ConfigDict:
        """Remove a top-level entry that is a dict, and give it; an empty one where there is none, or None.

        Raises:
            ConfigError: it is something else.
        """
        value = self.take(key)
        if value is None:
            return ConfigDict()
        if not isinstance(value, ConfigDict):
            self.fail(self.cfg, key, key, f'this is a dict in MMDetection 2.x; found {value!r}')
        return value

    def put(self, target: ConfigDict, name: Any, value: Any, source: Mapping[Any, Any] | None, key: Any) -> None:
        """`target[name] = value`, which was written where `source[key]` was."""
        dict.__setitem__(target, name, value)
        origin = self.origins.of(source, key) if isinstance(source, dict) else None
        if origin is not None:
            self.origins.mark(target, name, origin)

    def move(self, source: ConfigDict, key: Any, target: ConfigDict, name: Any = None) -> None:
        """`target[name] = source.pop(key)`, where there is such a key."""
        if key in source:
            self.put(target, key if name is None else name, source.pop(key), source, key)

    def like(self, source: Any, items: Any) -> Any:
        """A dict or list of `items` that stands where `source` was written."""
        new: Any = list(items)
        if isinstance(items, Mapping):
            new = ConfigDict()
            for key, value in items.items():
                dict.__setitem__(new, key, value)
        self.origins.inherit(new, source)
        return new

    def copy(self, value: Any) -> Any:
        """A deep copy that knows where it was written."""
        return own(value, self.origins, Meter())

    def merge(self, target: ConfigDict, name: str, value: Any, key: str) -> None:
        """Put `value`, of the top-level key `key` in 2.x, over what `target[name]` holds: dict into dict.

        A dict with `_delete_=True` replaces what is there.
        """
        patch = ConfigDict()
        self.put(patch, name, value, self.cfg, key)
        try:
            combine(patch, target, self.origins)
        except Refusal as e:
            self.fail(self.cfg, key, key, str(e))

    def fail(self, box: Any, key: Any, path: str, message: str) -> NoReturn:
        """Refuse a value of the user's.

        Raises:
            ConfigError: with the line of `box[key]`, or of the top-level entry that it is in.
        """
        origin = self.origins.of(box, key) if isinstance(box, dict) else None
        origin = origin or self.origins.of(self.cfg, path.partition('.')[0])
        raise ConfigError(f'{origin or self.file}: {path}: {message}')

    def one_of(self, box: Mapping[Any, Any], key: str, path: str, allowed: Iterable[str]) -> None:
        """Refuse a `box[key]` that is none of `allowed`."""
        names = list(allowed)
        if box[key] not in names:
            self.fail(box, key, path, f'there is no {box[key]!r}{did_you_mean(str(box[key]), names)}; '
                                      f'there are {", ".join(names)}')


def replaces(value: Any) -> bool:
    """Whether a dict is to replace what is there; the mark is removed."""
    return isinstance(value, dict) and bool(value.pop(DELETE, False))


def listed(value: Any) -> list[Any]:
    """`value` as a list: a single thing is a list of one, None of none."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
