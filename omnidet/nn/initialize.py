"""Initial values of a module's parameters, as `init_cfg` describes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omnidet.errors import ConfigError, did_you_mean
from omnidet.nn.init import bias_for_probability
from omnidet.registry import check_arguments

Cfg = Mapping[str, Any]

FOR_ALL = ('type', 'layer', 'override', 'bias', 'bias_prob')
"""The keys that every entry may have beside its initialiser's own."""


def initialize(module: nn.Module, init_cfg: Cfg | Sequence[Cfg] | None, default: Cfg | Sequence[Cfg] | None = None
               ) -> None:
    """Give the parameters of `module` the initial values that a config asks for.

    An entry is `dict(type='Kaiming', layer=['Conv2d'], ...)`: each submodule (and the module itself) whose class, or a
    class that it inherits from, is named in `layer` gets its weight drawn so, and its bias set to `bias`, or so that a
    sigmoid gives `bias_prob`. `override=dict(name='conv_cls', ...)`, or a list of them, treats one child, whole, in
    another way: by its own `type`, or the entry's where it has none. An entry without `layer` touches what it
    overrides, and nothing else. Entries apply one after another.

    Args:
        module: changed in place; one on the meta device has no values and stays as it is.
        init_cfg: an entry or several. Those of type `Pretrained` are left to `build_model(pretrained=True)`.
        default: entries for where `init_cfg` is None or has nothing but `Pretrained`.

    Raises:
        ConfigError: an unknown type or key, an override of a child that the module does not have, or a weight with
            too few dimensions for its initialiser.
    """
    entries = list(_entries(module, init_cfg)) or list(_entries(module, default))
    with torch.no_grad():
        for entry in entries:
            _apply(module, entry, _names(module, entry.get('layer')))
            overrides = entry.get('override') or ()
            for override in [overrides] if isinstance(overrides, Mapping) else overrides:
                _override(module, entry, override)


def _constant(weight: Tensor, val: float) -> None:
    nn.init.constant_(weight, val)


def _normal(weight: Tensor, mean: float = 0.0, std: float = 1.0) -> None:
    nn.init.normal_(weight, mean, std)


def _trunc_normal(weight: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> None:
    """Normal, and drawn anew outside a to b."""
    nn.init.trunc_normal_(weight, mean, std, a, b)


def _uniform(weight: Tensor, a: float = 0.0, b: float = 1.0) -> None:
    nn.init.uniform_(weight, a, b)


def _xavier(weight: Tensor, gain: float = 1.0, distribution: str = 'normal') -> None:
    """Variance 2 gain^2 / (fan in + fan out) (Glorot and Bengio, 2010, equation 16)."""
    draw = _choose('distribution', distribution, normal=nn.init.xavier_normal_, uniform=nn.init.xavier_uniform_)
    draw(weight, gain)


def _kaiming(weight: Tensor, a: float = 0.0, mode: str = 'fan_out', nonlinearity: str = 'relu',
             distribution: str = 'normal') -> None:
    """Variance gain^2 / fan (arXiv:1502.01852, equation 15)."""
    draw = _choose('distribution', distribution, normal=nn.init.kaiming_normal_, uniform=nn.init.kaiming_uniform_)
    _choose('mode', mode, fan_in=0, fan_out=0)
    draw(weight, a, mode, nonlinearity)


def _caffe2_xavier(weight: Tensor) -> None:
    """Uniform with variance 1 / fan in: what Caffe2 calls Xavier."""
    nn.init.kaiming_uniform_(weight, a=1, mode='fan_in', nonlinearity='leaky_relu')


INITIALISERS: dict[str, Callable[..., None]] = {
    'Constant': _constant, 'Normal': _normal, 'TruncNormal': _trunc_normal, 'Uniform': _uniform, 'Xavier': _xavier,
    'Kaiming': _kaiming, 'Caffe2Xavier': _caffe2_xavier,
}


def is_pretrained(entry: Any) -> bool:
    """Whether an entry of `init_cfg` names a file of weights: its type says so, or it has a checkpoint and no type."""
    if not isinstance(entry, Mapping):
        return False
    return _short(entry['type']) == 'Pretrained' if 'type' in entry else 'checkpoint' in entry


def _short(kind: Any) -> str:
    """`'mmengine.KaimingInit'` -> `'Kaiming'`."""
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', repr(kind))
    return name.rpartition('.')[2].removesuffix('Init')


def _entries(module: nn.Module, cfg: Cfg | Sequence[Cfg] | None) -> Iterator[Cfg]:
    for entry in () if cfg is None else [cfg] if isinstance(cfg, Mapping) else cfg:
        if not isinstance(entry, Mapping):
            raise ConfigError(f'{_where(module)}: an entry is a dict with a type, not {entry!r}')
        if not is_pretrained(entry):
            yield entry


def _override(module: nn.Module, entry: Cfg, override: Cfg) -> None:
    if not isinstance(override, Mapping) or 'name' not in override:
        raise ConfigError(f'{_where(module)}: an override is a dict with the name of a child, not {override!r}')
    name = override['name']
    child = dict(module.named_modules()).get(name)
    if child is None:
        names = [n for n, _ in module.named_children()]
        near = did_you_mean(name, names) or f'; it has {", ".join(names) or "none"}'
        raise ConfigError(f'{_where(module)}: override names {name!r}, which is no part of {_kind(module)}{near}')
    own = {k: v for k, v in override.items() if k != 'name'}
    inherited = {} if 'type' in own else {k: v for k, v in entry.items() if k not in ('layer', 'override')}
    _apply(child, {**inherited, **own}, _names(module, own.get('layer')), whole='layer' not in own)


def _apply(module: nn.Module, entry: Cfg, layers: set[str], whole: bool = False) -> None:
    """Initialise the submodules whose class is one of `layers`; all of them with `whole`."""
    kind = _short(entry.get('type', 'no type'))
    initialiser = INITIALISERS.get(kind)
    if initialiser is None:
        near = did_you_mean(kind, INITIALISERS) or f'; there are {", ".join(INITIALISERS)} and Pretrained'
        raise ConfigError(f'{_where(module)}: there is no initialiser {entry.get("type")!r}{near}')
    options = {k: v for k, v in entry.items() if k not in FOR_ALL}
    try:
        check_arguments(initialiser, {'weight': None, **options})
    except ConfigError as e:
        raise ConfigError(f'{_where(module)}: {str(e).replace(initialiser.__name__, kind, 1)}') from None
    bias = entry.get('bias', 0)
    if entry.get('bias_prob') is not None:
        bias = bias_for_probability(entry['bias_prob'])
    for m in module.modules():
        if whole or layers & {c.__name__ for c in type(m).__mro__}:
            if isinstance(getattr(m, 'weight', None), Tensor):
                _draw(m, initialiser, options, kind)
            if isinstance(getattr(m, 'bias', None), Tensor):
                nn.init.constant_(m.bias, bias)


def _draw(module: nn.Module, initialiser: Callable[..., None], options: Mapping[str, Any], kind: str) -> None:
    try:
        initialiser(module.weight, **options)
    except (TypeError, ValueError) as e:
        raise ConfigError(f'{_where(module)}: {kind} with {options} cannot initialise a weight of shape '
                          f'{tuple(module.weight.shape)}: {e}') from e


def _names(module: nn.Module, layer: Any) -> set[str]:
    """The class names of `layer`: a name or class, or a list of them."""
    layers = [] if layer is None else [layer] if isinstance(layer, (str, type)) else layer
    if not isinstance(layers, (list, tuple)) or not all(isinstance(n, (str, type)) for n in layers):
        raise ConfigError(f'{_where(module)}: layer is the name of a class, or a list of them, not {layer!r}')
    return {n.__name__ if isinstance(n, type) else n.rpartition('.')[2] for n in layers}


def _choose(what: str, found: str, **allowed: Any) -> Any:
    if found not in allowed:
        raise ValueError(f'{what} is {found!r}; allowed are {", ".join(allowed)}')
    return allowed[found]


def _kind(module: Any) -> str:
    return type(module).__name__


def _where(module: Any) -> str:
    return f'{_kind(module)}.init_cfg'
