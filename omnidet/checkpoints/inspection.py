"""What a file of weights is: who wrote it, for which model and classes, how large it is, and whether it is harmless."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from omnidet.checkpoints.checkpoint import survey_checkpoint
from omnidet.checkpoints.peers import recognise
from omnidet.checkpoints.sources import locate

LONGEST_CONFIG = 1_000_000    # characters; a longer text is no config, and would take long to parse
BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked')
"""Ends of names of tensors that are counted, not learned."""

_CLASSIFIERS = (
    (('layer1.0.conv1.weight', 'conv1.weight'), 'a ResNet as torchvision and timm name it'),
    (('layers.0.blocks.0.attn.relative_position_bias_table',), 'a Swin transformer as its authors or timm name it'),
    (('blocks.0.attn.qkv.weight',), 'a vision transformer as timm names it'),
    (('features.0.0.weight',), 'a torchvision classifier'),
)
"""Names that all weights of a kind have, and the kind."""


@dataclass
class Inspection:
    """What is known of a file.

    Attributes:
        path, megabytes: the file.
        container: how it is stored.
        kind: which program wrote it, or whose names it has.
        config: the zoo's config that weights of another project fit once they are converted, if there is one.
        model: the parts of the model that the config in it names.
        classes: the names of its classes.
        versions: {program: version}.
        progress: epoch, iteration and the like.
        parameters, buffers: how many numbers are learned, and how many counted.
        weights_megabytes: size of both.
        dtypes: {type: how many tensors}.
        average: what is known of averaged weights.
        optimizer: whether and how training can go on.
        prefixes: {beginning of names: (tensors, numbers)}.
        refused: classes and functions that the pickle names and that may do harm.
    """

    path: Path
    megabytes: float
    container: str
    kind: str
    config: str = ''
    model: str = ''
    classes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    buffers: int = 0
    weights_megabytes: float = 0.0
    dtypes: dict[str, int] = field(default_factory=dict)
    average: str = ''
    optimizer: str = ''
    prefixes: dict[str, tuple[int, int]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def inspect_checkpoint(path: str | Path) -> Inspection:
    """Look into a file of weights; nothing in it is run.

    Raises:
        CheckpointError: the file is missing, damaged, or no checkpoint.
    """
    path = locate(path)
    content, refused = survey_checkpoint(path)
    state: dict[str, Tensor] = content['state_dict']
    meta: dict[str, Any] = content['meta']
    peer = recognise(state)
    counted = [v for k, v in state.items() if k.endswith(BUFFERS)]
    numbers = sum(v.numel() for v in state.values())
    buffers = sum(v.numel() for v in counted)
    classes = meta['dataset_meta'].get('classes')
    return Inspection(
        path, path.stat().st_size / 1e6, _container(path), _kind(content, refused), peer.config if peer else '',
        describe_model(str(meta.get('cfg') or meta.get('config') or '')),
        _classes(classes),
        {k.removesuffix('_version'): str(v) for k, v in meta.items() if k.endswith('_version')},
        {k: v for k in ('epoch', 'iter', 'seed', 'time', 'exp_name', 'experiment_name', 'best')
         if isinstance(v := meta.get(k, content.get(k)), (str, int, float))},
        numbers - buffers, buffers, sum(v.numel() * v.element_size() for v in state.values()) / 1e6,
        _count(str(v.dtype).removeprefix('torch.') for v in state.values()), _average(content), _optimizer(content),
        _prefixes(state), refused)


def describe_model(text: str) -> str:
    """The `type`s of a model and its parts in the text of a config; empty where it has none.

    The text is parsed, not run.
    """
    try:
        tree = ast.parse(text if len(text) <= LONGEST_CONFIG else '')
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ''
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == 'model' for t in node.targets):
            parts = [_type(node.value), *(_type(v) for k, v in _items(node.value)
                                          if k.endswith(('backbone', 'neck', 'head')))]
            return ' + '.join(p for p in parts if p)
    return ''


def _classes(found: Any) -> tuple[str, ...]:
    if isinstance(found, str):
        return (found,)
    return tuple(map(str, found)) if isinstance(found, (list, tuple)) else ()


def _items(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """The entries of `dict(...)` or `{...}`."""
    if isinstance(node, ast.Call):
        yield from ((k.arg, k.value) for k in node.keywords if k.arg)
    elif isinstance(node, ast.Dict):
        yield from ((k.value, v) for k, v in zip(node.keys, node.values, strict=True)
                    if isinstance(k, ast.Constant) and isinstance(k.value, str))


def _type(node: ast.expr) -> str:
    values = {k: v.value for k, v in _items(node)
              if isinstance(v, ast.Constant) and isinstance(v.value, (str, int))}
    depth = f'-{values["depth"]}' if 'depth' in values else ''
    return f'{values["type"]}{depth}' if 'type' in values else ''


def _container(path: Path) -> str:
    if path.suffix == '.safetensors':
        return 'safetensors'
    return 'torch, zip' if zipfile.is_zipfile(path) else 'torch, before 1.6'


def _kind(content: Mapping[str, Any], refused: list[str]) -> str:
    """Which program wrote the file, or whose names the weights have."""
    state, meta = content['state_dict'], content['meta']
    mmdet = str(meta.get('mmdet_version', ''))
    if 'omnidet_version' in meta:
        return 'OmniDet'
    if mmdet[:1] in ('1', '2', '3'):
        return f'MMDetection {mmdet[0]}.x'
    if 'mmengine_version' in meta:
        scope = str(meta.get('cfg', '')).replace('"', "'")
        return 'MMDetection 3.x' if "default_scope = 'mmdet'" in scope else 'MMEngine'
    if 'mmcv_version' in meta:
        return 'MMCV'
    if peer := recognise(state):
        return f'{peer.model} of {peer.project}'
    for names, kind in _CLASSIFIERS:
        if any(all(f'{prefix}{n}' in state for n in names) for prefix in ('', 'backbone.', 'module.')):
            return kind
    if refused and not state:
        return 'objects pickled with their classes'
    parts = {name.split('.')[0] for name in state}
    if 'backbone' in parts and any(part.endswith('_head') for part in parts):
        return "weights with MMDetection's names"
    return 'a state dict' + (' with meta data' if len(meta) > 1 else '')


def _average(content: Mapping[str, Any]) -> str:
    state, trained = content['state_dict'], content.get('ema_state_dict')
    if isinstance(trained, dict):
        return f'yes: state_dict is the average, ema_state_dict the weights that were trained ({len(trained)} tensors)'
    copies = len(average_copies(state))
    return f'yes: {copies} tensors are beside the others as ema_*' if copies else 'no'


def average_copies(state: Mapping[str, Any]) -> list[str]:
    """The names of MMDetection 2.x's second set of weights, `ema_backbone_conv1_weight` for `backbone.conv1.weight`."""
    flat = {f'ema_{name.replace(".", "_")}' for name in state}
    return [name for name in state if name in flat]


def _optimizer(content: Mapping[str, Any]) -> str:
    optimizer, meta = content.get('optimizer'), content['meta']
    if not isinstance(optimizer, dict):
        return 'no'
    groups, state = optimizer.get('param_groups'), optimizer.get('state')
    count = f'{len(state) if isinstance(state, dict) else 0} tensors'
    count += f' in {len(groups)} groups' if groups and isinstance(groups, (list, tuple)) else ''
    return f'yes, of {count}' + ('' if 'iter' in meta else '; but no iteration to resume from')


def _prefixes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """By the first part of the names; by two where all have the same first part."""
    depth = 2 if len({name.split('.')[0] for name in state}) == 1 else 1
    out: dict[str, tuple[int, int]] = {}
    for name, value in state.items():
        key = '.'.join(name.split('.')[:depth])
        tensors, numbers = out.get(key, (0, 0))
        out[key] = tensors + 1, numbers + value.numel()
    return out


def _count(values: Iterator[str]) -> dict[str, int]:
    out: dict[str, int] = {}
    for value in values:
        out[value] = out.get(value, 0) + 1
    return out
