"""Holds a config against signatures: unknown types, unknown arguments, arguments of the wrong kind. Builds nothing."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from omnidet.config.kinds import describe, fits
from omnidet.config.nodes import Config, Origin, Path, children, dotted
from omnidet.errors import did_you_mean

READ = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
        'val_evaluator', 'test_evaluator', 'optim_wrapper', 'param_scheduler', 'default_hooks', 'custom_hooks')
"""The top-level keys that a run reads parts from. The others only name values for the file: `train_pipeline`."""

NO_PARTS = frozenset({'init_cfg', 'nms', 'logger', 'timer', 'meta'})
"""Keys of dicts whose `type` names no class: an initialisation, a kind of NMS."""

TAKEN = {'norm_cfg': {'requires_grad'}, 'act_cfg': {'inplace'}, 'conv_cfg': {'fallback_on_stride'},
         'dcn': {'fallback_on_stride'}, 'cfg': {'postfix'},
         'loss_cls': {'bg_cls_weight'}, 'custom_hooks': {'priority'}, 'default_hooks': {'priority'}}
"""Arguments that whoever builds a part takes out before."""

Lookup = Callable[[str, Path], 'Callable[..., Any] | None']


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a config.

    Attributes:
        path: where, as users write it: `model.neck.out_chanels`.
        message: what, and the nearest match.
        origin: file and line, where they are known.
    """

    path: str
    message: str
    origin: Origin | None = None

    def __str__(self) -> str:
        return f'{f"{self.origin}: " if self.origin else ""}{self.path}: {self.message}'


def validate(cfg: Mapping[str, Any], lookup: Lookup, names: Callable[[Path], Iterable[str]] = lambda path: ()
             ) -> list[Problem]:
    """Hold every dict with a `type` in `cfg` against the signature of what the type names.

    An argument that is missing is no problem: parts are given some of theirs by those around them. Where an annotation
    does not tell, a value fits.

    Args:
        cfg: a whole experiment.
        lookup: (name, path of the dict) -> the class or function, or None where no such part is known.
        names: path of a dict -> the types that it could have had, for the nearest match.

    Returns:
        What is wrong, in the order of the config; one mistake that was copied to several places counts once.
    """
    once: dict[tuple[object, str], Problem] = {}
    for key, value in cfg.items():
        if key in READ:
            for problem in _visit(value, (key,), cfg, lookup, names):
                once.setdefault((problem.origin or problem.path, problem.message), problem)
        elif isinstance(value, (dict, list)) and (near := _misspelt(str(key))):
            once[key, ''] = Problem(key, f"no run reads this; did you mean '{near}'?", _origin(cfg, (key,)))
    return list(once.values())


def _misspelt(key: str) -> str | None:
    """The top-level key that `key` is a slip of the pen for: a letter too few, too many or changed."""
    if key.startswith(READ):
        return None
    return next(iter(difflib.get_close_matches(key, READ, n=1, cutoff=0.92)), None)


def _visit(value: Any, path: Path, cfg: Mapping[str, Any], lookup: Lookup, names: Callable[[Path], Iterable[str]]
           ) -> Iterator[Problem]:
    foreign: Iterable[str] = ()    # arguments that describe parts of another library
    if isinstance(value, dict) and 'type' in value:
        yield from _check_part(value, path, cfg, lookup, names)
        kind = value['type']
        foreign = getattr(lookup(kind, path) if isinstance(kind, str) else kind, 'FOREIGN_PARTS', ())
    for key, item in children(value):
        if key not in NO_PARTS and key not in foreign:
            yield from _visit(item, (*path, key), cfg, lookup, names)


def _check_part(part: Mapping[str, Any], path: Path, cfg: Mapping[str, Any], lookup: Lookup,
                names: Callable[[Path], Iterable[str]]) -> Iterator[Problem]:
    kind = part['type']
    here = (*path, 'type')
    if not isinstance(kind, str) and not callable(kind):
        yield Problem(dotted(here), f'a type is the name of a part, not {describe(kind)}', _origin(cfg, here))
        return
    cls = lookup(kind, path) if isinstance(kind, str) else kind
    if cls is None:
        near = did_you_mean(kind.rpartition('.')[2], names(path))
        yield Problem(dotted(here), f'there is no {kind!r}{near}', _origin(cfg, here))
        return
    parameters, hints, name = _signature(cls)
    if parameters is None:
        return
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in part.items():
        at = (*path, key)
        parameter = parameters.get(key)
        if parameter is None or parameter.kind is parameter.VAR_KEYWORD:
            if not (open_ended or key == 'type' or str(key).startswith('_') or key in _taken(path)):
                near = did_you_mean(str(key), parameters) or f'; it takes {", ".join(parameters) or "none"}'
                yield Problem(dotted(at), f'{name} has no such argument{near}', _origin(cfg, at))
        elif key in hints and value is not parameter.default and not fits(value, hints[key]):
            wanted = inspect.formatannotation(hints[key]).replace('collections.abc.', '').replace('typing.', '')
            yield Problem(dotted(at), f'{name} takes {wanted} here, not {describe(value)}', _origin(cfg, at))


def _taken(path: Path) -> set[str]:
    """The arguments that are taken out before the part at `path` is built."""
    key = next((k for k in reversed(path) if isinstance(k, str)), '')
    return TAKEN.get(key, set()) | (TAKEN.get(str(path[0]), set()) if len(path) == 2 else set())


@cache
def _signature(cls: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter] | None, dict[str, Any], str]:
    """(parameters, annotations, name) of a class or function; None where Python does not tell."""
    name = getattr(cls, '__name__', str(cls))
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return None, {}, name
    try:
        hints = get_type_hints(cls.__init__ if isinstance(cls, type) else cls)    # type: ignore[misc]
    except Exception:    # an annotation may name what is imported for type checkers only
        hints = {}
    return parameters, hints, name


def _origin(cfg: Mapping[str, Any], path: Path) -> Origin | None:
    return cfg.origin(path) if isinstance(cfg, Config) else None
