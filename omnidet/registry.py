"""Names to classes: one flat namespace per kind of part, filled by decorators when a kind's package is imported.

A config names a part by `type='ResNet'`; scopes (`mmdet.ResNet`) and module paths are dropped. A name that is not
known yet makes the registry import its package once, with all submodules, so that no list of parts is kept by hand.
`MODELS` and `TASK_UTILS` are the names under which users of MMDetection register parts of their own. Where such a part
has the name of one of ours, it takes its place, with a warning.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from omnidet.errors import ConfigError, did_you_mean

T = TypeVar('T')
log = logging.getLogger('omnidet')

OWN = ('omnidet', 'torch', 'torchvision')
"""The packages whose classes are OmniDet's own parts; every other part is a user's."""


_UNFIT = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError,
          MemoryError)
"""What a part ends in whose arguments are of the wrong kind or size."""


class Registry:
    """One kind of part.

    Args:
        kind: what an error message calls such a part: `'backbone'`.
        package: the package whose modules register the parts of this kind.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, Callable[..., Any]] = {}
        self._imported = False

    def register(self, cls: Callable[..., T], name: str | None = None, force: bool = False) -> Callable[..., T]:
        """File `cls` under `name` (its own name by default); used as a decorator.

        Raises:
            ConfigError: the name is taken by another class of the same origin and `force` is not set.
        """
        name = name or cls.__name__
        known = self._classes.get(name)
        if known is not None and not force and _identity(known) != _identity(cls):
            if is_own(known) == is_own(cls):
                raise ConfigError(f'{self.kind} {name!r} is registered already by {known.__module__}; '
                                  'choose another name, or pass force=True to replace it')
            mine, theirs = (known, cls) if is_own(known) else (cls, known)    # ours may be imported after the user's
            log.warning('%s %r of %s takes the place of the one of %s', self.kind, name, theirs.__module__,
                        mine.__module__)
        if known is None or force or not is_own(cls) or is_own(known):
            self._classes[name] = cls
        return cls

    def register_module(self, name: str | list[str] | None = None, force: bool = False,
                        module: Callable[..., T] | None = None) -> Any:
        """MMDetection's spelling of `register`: `@MODELS.register_module()`, with a name, several, or none."""
        if isinstance(name, type):    # `@MODELS.register_module`, without brackets
            return self.register(name)

        def file(cls: Callable[..., T]) -> Callable[..., T]:
            for n in [name] if name is None or isinstance(name, str) else name:
                self.register(cls, n, force)
            return cls
        return file if module is None else file(module)

    @property
    def module_dict(self) -> dict[str, Callable[..., Any]]:
        """{name: class} of every part, as users of MMDetection know it; a copy."""
        self._import()
        return dict(self._classes)

    def find(self, name: str) -> Callable[..., Any] | None:
        """The class registered under `name`, or None."""
        name = name.rpartition('.')[2]
        if name not in self._classes:
            self._import()
        return self._classes.get(name)

    def get(self, name: str) -> Callable[..., Any]:
        """The class registered under `name`.

        Raises:
            ConfigError: there is none; the message names the nearest.
        """
        cls = self.find(name)
        if cls is None:
            raise ConfigError(f'there is no {self.kind} {name!r}{did_you_mean(name.rpartition(".")[2], self.names())}')
        return cls

    def build(self, cfg: Mapping[str, Any], default_args: Any = None, **defaults: Any) -> Any:
        """Make the part that `cfg` describes: `type` names it, the other keys are its arguments.

        Args:
            cfg: a dict with a `type` (a name, or a class); never changed.
            default_args: as `defaults`, in MMDetection's spelling.
            defaults: arguments that hold where `cfg` does not give them.

        Raises:
            ConfigError: no `type`, an unknown one, an argument that the part does not have, or one that it lacks.
        """
        if not isinstance(cfg, Mapping):
            if isinstance(cfg, (str, int, float, list, tuple, type(None))):
                raise ConfigError(f'a {self.kind} is described by a dict with a type, not by {cfg!r}')
            return cfg    # built already
        if 'type' not in cfg:
            raise ConfigError(f'a {self.kind} needs a type; found the keys {sorted(map(str, cfg))}')
        kind = cfg['type']
        if not isinstance(kind, str) and not callable(kind):
            raise ConfigError(f'the type of a {self.kind} is its name, not {kind!r}')
        cls = self.get(kind) if isinstance(kind, str) else kind
        kwargs = {**(default_args or {}), **defaults, **{k: v for k, v in cfg.items() if k != 'type'}}
        check_arguments(cls, kwargs)
        if is_own(cls):
            return self._made(cls, kwargs)
        # a user's part may be written for MMDetection
        from omnidet.compat.adopt import adopt
        return adopt(self.kind, cls, kwargs)

    def _made(self, cls: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
        """`cls(**kwargs)`; what a value of the wrong kind or size ends in, deep inside, is the config's error."""
        try:
            return cls(**kwargs)
        except _UNFIT as e:
            if type(e).__name__ == 'OutOfMemoryError':    # of the device, which has words of its own
                raise
            raise ConfigError(f'no {self.kind} {getattr(cls, "__name__", cls)} can be made of these arguments: '
                              f'{type(e).__name__}: {str(e)[:300]}') from e

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._import()
        return sorted(self._classes)

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def _import(self) -> None:
        if self._imported:
            return
        self._imported = True
        try:
            root = importlib.import_module(self.package)
        except ModuleNotFoundError as e:
            if e.name is not None and self.package.startswith(e.name):
                return
            raise
        for module in pkgutil.walk_packages(getattr(root, '__path__', []), self.package + '.'):
            importlib.import_module(module.name)


class RegistryGroup:
    """Several registries under one name: a part registered here is found under each kind."""

    def __init__(self, *registries: Registry) -> None:
        self.registries = registries

    def register_module(self, name: str | list[str] | None = None, force: bool = False,
                        module: Callable[..., T] | None = None) -> Any:
        if isinstance(name, type):
            name, module = None, name

        def file(cls: Callable[..., T]) -> Callable[..., T]:
            for registry in self.registries:
                registry.register_module(name, force, cls)
            return cls
        return file if module is None else file(module)

    @property
    def module_dict(self) -> dict[str, Callable[..., Any]]:
        """{name: class} of the parts of every kind; the first kind wins."""
        return {name: cls for r in reversed(self.registries) for name, cls in r.module_dict.items()}

    def find(self, name: str) -> Callable[..., Any] | None:
        return next((cls for r in self.registries if (cls := r.find(name)) is not None), None)

    def get(self, name: str) -> Callable[..., Any]:
        """The class registered under `name`; as `Registry.get`."""
        return self._holding(name).get(name)

    def build(self, cfg: Mapping[str, Any], default_args: Any = None, **defaults: Any) -> Any:
        """Make the part that `cfg` describes; as `Registry.build`."""
        name = cfg.get('type') if isinstance(cfg, Mapping) else None
        registry = self._holding(name) if isinstance(name, str) else self.registries[0]
        return registry.build(cfg, default_args, **defaults)

    def _holding(self, name: str) -> Registry:
        for registry in self.registries:
            if name in registry:
                return registry
        raise ConfigError(f'there is no part {name!r}{did_you_mean(name, self.names())}')

    def names(self) -> list[str]:
        return sorted({n for r in self.registries for n in r.names()})

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None


def check_arguments(cls: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Hold `kwargs` against the signature of `cls`.

    Raises:
        ConfigError: an argument that `cls` does not take (with the nearest that it does), or a missing one.
    """
    parameters = inspect.signature(cls).parameters
    name = getattr(cls, '__name__', str(cls))
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in kwargs:
            if key not in parameters:
                near = did_you_mean(str(key), parameters) or f'; it takes {", ".join(parameters) or "none"}'
                raise ConfigError(f'{name} has no argument {key!r}{near}')
    missing = [k for k, p in parameters.items()
               if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and k not in kwargs]
    if missing:
        raise ConfigError(f'{name} needs the argument{"s" * (len(missing) > 1)} {", ".join(map(repr, missing))}')


def is_own(cls: Callable[..., Any]) -> bool:
    """Whether a part is OmniDet's own."""
    return str(getattr(cls, '__module__', '')).partition('.')[0] in OWN


def _identity(cls: Callable[..., Any]) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


BACKBONES = Registry('backbone', 'omnidet.models.backbones')
NECKS = Registry('neck', 'omnidet.models.necks')
DENSE_HEADS = Registry('dense head', 'omnidet.models.dense_heads')
ROI_HEADS = Registry('RoI head', 'omnidet.models.roi_heads')
SEG_HEADS = Registry('segmentation head', 'omnidet.models.seg_heads')
MASK_HEADS = Registry('mask head', 'omnidet.models.mask_heads')
DETECTORS = Registry('detector', 'omnidet.models.detectors')
LOSSES = Registry('loss', 'omnidet.models.parts')
PRIORS = Registry('prior generator', 'omnidet.models.parts')
CODERS = Registry('box coder', 'omnidet.models.parts')
ASSIGNERS = Registry('assigner', 'omnidet.models.parts')
SAMPLERS = Registry('sampler', 'omnidet.models.parts')
IOU_CALCULATORS = Registry('IoU calculator', 'omnidet.models.parts')
MATCH_COSTS = Registry('match cost', 'omnidet.models.parts')
DATASETS = Registry('dataset', 'omnidet.data.datasets')
TRANSFORMS = Registry('transform', 'omnidet.data.transforms')
DATA_SAMPLERS = Registry('data sampler', 'omnidet.data')
PREPROCESSORS = Registry('data preprocessor', 'omnidet.data')
METRICS = Registry('metric', 'omnidet.evaluation')
HOOKS = Registry('hook', 'omnidet.engine.hooks')
LOOPS = Registry('loop', 'omnidet.engine')
OPTIMIZERS = Registry('optimizer', 'omnidet.engine')
OPTIM_WRAPPERS = Registry('optimizer wrapper', 'omnidet.engine')
PARAM_SCHEDULERS = Registry('parameter scheduler', 'omnidet.engine')
VISUALIZERS = Registry('visualizer', 'omnidet.engine')
CONV_LAYERS = Registry('convolution', 'omnidet.nn')
LINEAR_LAYERS = Registry('linear layer', 'omnidet.nn')
NORM_LAYERS = Registry('norm layer', 'omnidet.nn')
ACTIVATIONS = Registry('activation', 'omnidet.nn')
PLUGINS = Registry('plugin', 'omnidet.nn')
ROI_LAYERS = Registry('RoI layer', 'omnidet.nn')
UPSAMPLE_LAYERS = Registry('upsampling layer', 'omnidet.nn')
POSITIONAL_ENCODINGS = Registry('positional encoding', 'omnidet.nn')

MODELS = RegistryGroup(
    BACKBONES, NECKS, DENSE_HEADS, ROI_HEADS, SEG_HEADS, MASK_HEADS, DETECTORS, LOSSES, PREPROCESSORS,
    PLUGINS, POSITIONAL_ENCODINGS, CONV_LAYERS, LINEAR_LAYERS, NORM_LAYERS, ACTIVATIONS, UPSAMPLE_LAYERS, ROI_LAYERS)
TASK_UTILS = RegistryGroup(PRIORS, CODERS, ASSIGNERS, SAMPLERS, IOU_CALCULATORS, MATCH_COSTS)

KINDS: tuple[Registry, ...] = (
    *MODELS.registries, *TASK_UTILS.registries, DATASETS, TRANSFORMS, DATA_SAMPLERS, METRICS, HOOKS,
    LOOPS, OPTIMIZERS, OPTIM_WRAPPERS, PARAM_SCHEDULERS, VISUALIZERS)


def find_anywhere(name: str, kinds: Iterable[Registry] = KINDS) -> Callable[..., Any] | None:
    """The class that any kind knows under `name`, or None."""
    return next((cls for kind in kinds if (cls := kind.find(name)) is not None), None)
