"""What the entries of a config must be that every run reads before it knows of any part: dicts, lists, numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omnidet.config.kinds import describe
from omnidet.config.nodes import Config, Path, dotted
from omnidet.config.validate import Problem

_DICT, _DICTS = (Mapping, type(None)), (Mapping, list, tuple, type(None))
_LOADER = {'': _DICT, 'dataset': (Mapping,), 'batch_size': (int,), 'num_workers': (int,), 'sampler': _DICT,
           'batch_sampler': _DICT}
_FORMS: dict[str, dict[str, tuple[type, ...]]] = {
    'model': {'': _DICT}, 'train_dataloader': _LOADER, 'val_dataloader': _LOADER, 'test_dataloader': _LOADER,
    'train_cfg': {'': _DICT}, 'val_cfg': {'': _DICT}, 'test_cfg': {'': _DICT},
    'val_evaluator': {'': _DICTS, '*': (Mapping,)}, 'test_evaluator': {'': _DICTS, '*': (Mapping,)},
    'optim_wrapper': {'': _DICT, 'optimizer': (Mapping,), 'paramwise_cfg': _DICT, 'clip_grad': _DICT},
    'param_scheduler': {'': _DICTS, '*': (Mapping,)}, 'default_hooks': {'': _DICT, '*': _DICT},
    'custom_hooks': {'': (list, tuple, type(None)), '*': (Mapping,)}, 'env_cfg': {'': _DICT}, 'randomness': {'': _DICT},
    'auto_scale_lr': {'': _DICT}, 'load_from': {'': (str, type(None))}, 'work_dir': {'': (str, type(None))},
    'resume': {'': (bool, str, type(None))},
}
"""{top-level key: {'': what it may be, a key in it: what that may be, '*': what each item of the list may be}}."""

_NAMES = {Mapping: 'a dict', list: 'a list', int: 'a whole number', str: 'a text', bool: 'True or False'}


def misshapen(cfg: Mapping[str, Any]) -> list[Problem]:
    """The entries of `cfg` that are not what every run takes them for."""
    return [problem for key, forms in _FORMS.items() if key in cfg for problem in _check(cfg, key, forms)]


def _check(cfg: Mapping[str, Any], key: str, forms: Mapping[str, tuple[type, ...]]) -> Iterator[Problem]:
    value = cfg[key]
    if not isinstance(value, forms['']):
        yield _problem(cfg, (key,), value, forms[''])
    elif isinstance(value, Mapping):
        each = forms.get('*') if key == 'default_hooks' else None    # elsewhere, a dict stands for a list of one
        for name, item in value.items():
            kinds = each or forms.get(str(name) or '*')
            if kinds is not None and not isinstance(item, kinds):
                yield _problem(cfg, (key, name), item, kinds)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            if not isinstance(item, forms['*']):
                yield _problem(cfg, (key, i), item, forms['*'])


def _problem(cfg: Mapping[str, Any], path: Path, value: Any, kinds: tuple[type, ...]) -> Problem:
    wanted = ' or '.join(_NAMES[k] for k in kinds if k in _NAMES)
    return Problem(dotted(path), f'this is {wanted}, not {describe(value)}',
                   cfg.origin(path) if isinstance(cfg, Config) else None)
