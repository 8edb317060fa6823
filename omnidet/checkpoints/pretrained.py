"""The weights that a config's parts begin with."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from omnidet.checkpoints.checkpoint import LoadReport, load_checkpoint, load_weights
from omnidet.checkpoints.download import UnreachableError
from omnidet.checkpoints.sources import GoneError, locate, scheme_of
from omnidet.errors import CheckpointError

log = logging.getLogger('omnidet')


def load_pretrained(model: nn.Module, cfg: Mapping[str, Any], where: str = 'model') -> list[LoadReport]:
    """Give each part the weights that its `init_cfg=dict(type='Pretrained', checkpoint=...)`, or `pretrained`, names.

    A source is a path, an address (https, http, file), or a name: `torchvision://resnet50`,
    `open-mmlab://detectron2/resnet50_caffe`, `timm://resnet50`. See `fetch` for where files are looked for and kept.
    A part within a part that has weights of its own gets those first, and the outer ones over them.

    Args:
        model: built from `cfg`; changed in place.
        cfg: the config of the model; its parts are looked for under the same names in the model.
        where: what a message calls `cfg`.

    Returns:
        A report for each part that got weights. One whose weights lie on a host that cannot be reached keeps its
        values, with a warning.

    Raises:
        CheckpointError: a file that is not there, damaged, or for another model; the message says how to go on
            without it.
    """
    reports = _load_own(model, cfg, where)
    if reports and all(r.complete for r in reports):
        return reports    # nothing is left for what is within
    inner = []
    for key, value in cfg.items():
        for name, part, part_cfg in _parts(f'{where}.{key}', getattr(model, key, None), value):
            inner += load_pretrained(part, part_cfg, name)
    return inner + (_load_own(model, cfg, where) if reports and inner else reports)


def _parts(where: str, part: Any, cfg: Any) -> Iterator[tuple[str, nn.Module, Mapping[str, Any]]]:
    """The modules that a value of a config has become: one, or one for each entry of a list."""
    if isinstance(part, nn.Module) and isinstance(cfg, Mapping):
        yield where, part, cfg
    elif isinstance(part, (nn.ModuleList, nn.Sequential)) and isinstance(cfg, (list, tuple)):
        for i, (one, one_cfg) in enumerate(zip(part, cfg, strict=False)):
            yield from _parts(f'{where}.{i}', one, one_cfg)


def _load_own(part: nn.Module, cfg: Mapping[str, Any], where: str) -> list[LoadReport]:
    init = cfg.get('init_cfg', getattr(part, 'init_cfg', None))    # a user's part keeps what its class has by default
    entries: Sequence[Any] = init if isinstance(init, (list, tuple)) else [init]
    found = [_load(part, str(one['checkpoint']), one.get('prefix') or '', f'{where}.init_cfg.checkpoint')
             for one in entries if _is_pretrained(one)]
    for key in ('pretrained', 'checkpoint_path'):    # as older configs say it, and as timm does
        source = cfg.get(key)
        if source is True and hasattr(part, 'pretrained_state'):
            source = f'timm://{part.model_name}'
        if isinstance(source, str) and source:
            found.append(_load(part, source, '', f'{where}.{key}'))
    return [r for r in found if r is not None]


def _is_pretrained(entry: Any) -> bool:
    """Whether an entry of `init_cfg` names weights: its type says so, or it has a checkpoint and no type."""
    kind = str(entry.get('type', 'Pretrained')) if isinstance(entry, Mapping) and 'checkpoint' in entry else ''
    return kind.rpartition('.')[2] in ('Pretrained', 'PretrainedInit')


def _load(part: nn.Module, source: str, prefix: str, where: str) -> LoadReport | None:
    """Read `source` into `part`; None where its host cannot be reached."""
    try:
        state = _read(part, source, where)
    except UnreachableError as e:
        way = '' if isinstance(e, GoneError) else ('To begin with the pretrained ones, download the file elsewhere and '
                                                   'set OMNIDET_MIRROR to its folder. ')
        log.warning('%s: %s. This part begins with random weights! %s--cfg-options %s=FILE names a file; None in its '
                    'place says that random weights are meant.', where, e, way, where)
        return None
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        state = {k[len(prefix):]: v for k, v in state.items() if k.startswith(prefix)}
        if not state:
            raise CheckpointError(f'{where}: {source} has no names that begin with {prefix!r}')
    convert = getattr(part, 'convert_names', None)    # a backbone that knows other projects' names for its parameters
    report = load_weights(part, state if convert is None else convert(state), source)
    log.log(logging.INFO if report.complete else logging.WARNING, '%s: %s', where.rpartition('.')[0], report)
    return report


def _read(part: nn.Module, source: str, where: str) -> Mapping[str, Tensor]:
    if scheme_of(source) == 'timm':
        return _read_timm(part, source)
    path = locate(source)
    if not path.is_file():
        raise CheckpointError(f'{where}: {path} is not there. Name another file (--cfg-options {where}=FILE), or '
                              f'train from scratch ({where.rpartition(".checkpoint")[0] or where}=None)')
    return load_checkpoint(path)['state_dict']


def _read_timm(part: nn.Module, source: str) -> Mapping[str, Tensor]:
    """The weights that timm publishes for one of its models, as it names them; its own client brings and keeps them."""
    name = source.partition('://')[2]
    try:
        import timm
        if name == getattr(part, 'model_name', None):
            return part.pretrained_state()    # type: ignore[operator]
        return timm.create_model(name, pretrained=True).state_dict()
    except ImportError as e:
        raise CheckpointError(f'{source}: this needs a package: pip install timm') from e
    except Exception as e:
        client = type(e).__module__.partition('.')[0] in ('huggingface_hub', 'httpx', 'httpcore', 'requests', 'urllib3')
        if (client or isinstance(e, OSError)) and getattr(e, 'response', None) is None:
            raise UnreachableError(f'{source}: its host cannot be reached ({type(e).__name__})') from e
        raise CheckpointError(f'{source}: {e}') from e    # no such model, or no weights of it
