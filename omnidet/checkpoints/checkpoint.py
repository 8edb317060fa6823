"""Reading checkpoints, matching them to a model, and writing them.

The layout is MMEngine's: `state_dict`, `meta`, `optimizer`, `param_schedulers`, `ema_state_dict`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from omnidet.checkpoints import unpickle
from omnidet.checkpoints.bounds import check_nesting
from omnidet.checkpoints.older import background_last, current_names
from omnidet.checkpoints.peers import recognise
from omnidet.checkpoints.safetensors import read_safetensors
from omnidet.checkpoints.sources import locate
from omnidet.errors import CheckpointError, TrainingError
from omnidet.files import written_whole

log = logging.getLogger('omnidet')

State = Mapping[str, Tensor]
Value = TypeVar('Value')
LAYOUTS = ('state_dict', 'model', 'model_state_dict', 'module', 'params')
"""The keys under which projects keep a model's weights."""

DERIVED = ('num_batches_tracked', 'relative_position_index')
"""Ends of names of buffers that a model does not miss: a counter that nothing reads, a table that the shape implies."""

METADATA = 'omnidet'
"""The key of a safetensors file's metadata under which `meta` is kept, as json."""


def load_checkpoint(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Read a checkpoint on the CPU.

    Args:
        path: a torch file of any age, or a `.safetensors` file; or an address or name that `locate` knows.
        trust: let the file run code (a pickle of unknown classes); only for files whose author you trust.

    Returns:
        What the file holds, with at least `state_dict` and `meta`; `meta['dataset_meta']` has `classes` where known.

    Raises:
        CheckpointError: the file is missing, damaged, no checkpoint, or would run code.
    """
    path = locate(path)
    return _normalised(_read(path, pickle if trust else unpickle), path)


def survey_checkpoint(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Read a checkpoint whoever made it, and tell what `load_checkpoint` would refuse; nothing of it is run.

    Returns:
        What `load_checkpoint` returns, with stand-ins in place of refused objects and a `state_dict` that may be empty
        where there are such; and the names of refused classes and functions.

    Raises:
        CheckpointError: the file is missing, damaged, or no checkpoint.
    """
    path = locate(path)
    survey = unpickle.Survey()
    content = _read(path, survey)
    try:
        return _normalised(content, path), survey.refused
    except CheckpointError:
        if not survey.refused:
            raise
        return {'state_dict': {}, 'meta': {'dataset_meta': {}}}, survey.refused


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint; an older file of the same name is replaced at once when all is written.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written; the older file stays.
    """
    path = Path(path)
    try:
        with written_whole(path) as temporary, temporary.open('wb') as f:
            torch.save(dict(checkpoint), f)
            f.flush()
            os.fsync(f.fileno())
    except (OSError, RuntimeError) as e:
        number = _os_error(e)
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = 'the disk is full' if full else f'it cannot be written ({os.strerror(number) if number else e})'
        raise TrainingError(f'{path}: {why}; the checkpoint is not saved. Make room, then go on from the last '
                            f'checkpoint in {path.parent} with --resume') from e


@dataclass
class LoadReport:
    """How a checkpoint's names met a model's.

    Attributes:
        source: where the weights came from.
        matched: how many tensors were taken over.
        missing: names of the model that the checkpoint lacks; they keep their values.
        unexpected: names of the checkpoint that the model lacks.
        mismatched: {name: (shape in the checkpoint, shape in the model)}.
        note: what the mismatches mean, in words.
    """

    source: str
    matched: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    note: str = ''

    @property
    def complete(self) -> bool:
        return not (self.missing or self.mismatched)

    def __str__(self) -> str:
        lines = [f'{self.source}: {self.matched} tensors loaded']
        if self.note:
            lines.append(self.note)
        shapes = [f'{k} {a} for {b}' for k, (a, b) in self.mismatched.items()]
        for what, names in (('of another shape (file for model)', shapes), ('missing in the file', self.missing),
                            ('in the file only', self.unexpected)):
            if names:
                lines.append(f'  {len(names)} {what}: {", ".join(names[:3])}{", ..." if len(names) > 3 else ""}')
        return '\n'.join(lines)


def load_weights(model: nn.Module, state: State, source: str, strict: bool = False) -> LoadReport:
    """Copy the tensors of `state` into `model` where name and shape agree.

    Prefixes that wrappers add (`module.`, `_orig_mod.`, `model.`) are taken off, and `backbone.` where `model` is
    one; the `ema_*` names of MMDetection 2.x are understood, and names that older releases had for the same weights.

    Args:
        model: changed in place.
        state: names and tensors.
        source: what a message calls the checkpoint.
        strict: raise when a tensor of the model gets no value.

    Raises:
        CheckpointError: nothing matches, or with `strict` not everything does.
    """
    own = model.state_dict()
    peer = recognise(state)
    hint = '' if peer is None else (f'\nThese weights are {peer.model} of {peer.project}; `omnidet checkpoint convert` '
                                    'makes ours of them')
    state = _through_backbone(model, fitted(state, own, source), own)
    report = LoadReport(source)
    taken: dict[str, Tensor] = {}
    for name, value in own.items():
        if name not in state:
            if not name.endswith(DERIVED):
                report.missing.append(name)
        elif state[name].shape != value.shape:
            report.mismatched[name] = (tuple(state[name].shape), tuple(value.shape))
        else:
            taken[name] = state[name]
    report.unexpected = [k for k in state if k not in own and not k.startswith('data_preprocessor.')]
    report.matched = len(taken)
    report.note = _class_note(model, report.mismatched)
    if not taken:
        raise CheckpointError(f'{source}: not one of its {len(state)} tensors fits the model. It has names like '
                              f'{_examples(state)}, the model like {_examples(own)}: is it made for another config?'
                              f'{hint}')
    if strict and not report.complete:
        raise CheckpointError(f'{report}{hint}')
    model.load_state_dict(taken, strict=False)
    return report


def fitted(state: Mapping[str, Value], own: Iterable[str], source: str) -> dict[str, Value]:
    """`state` under the names of a model, as far as they differ by wrappers' prefixes or by age; the order stays.

    Args:
        state: names, and tensors or anything else.
        own: the model's names.
        source: what the log calls the checkpoint.
    """
    mine = dict.fromkeys(own)
    prefixes = ('', 'module.', '_orig_mod.', 'model.', 'ema_model.module.', 'backbone.')
    options: list[dict[str, Value]] = [{k.removeprefix(p): v for k, v in state.items()} for p in prefixes]
    best = max(options, key=lambda s: sum(k in mine for k in s))
    # MMDetection 2.x keeps a second set of weights beside the averaged ones, named like `ema_backbone_conv1_weight`
    flat = {f'ema_{k.replace(".", "_")}': k for k in (*mine, *best)}
    out = {k: v for k, v in best.items() if k not in flat}
    for k, v in best.items():
        if k in flat:
            out.setdefault(flat[k], v)
    renamed, releases = current_names(out, mine)
    if renamed:
        older, new = next(iter(renamed.items()))
        log.info('%s: %d names are older than the model (%s): %s is %s now, and so on', source, len(renamed),
                 '; '.join(releases), older, new)
    return {renamed.get(k, k): v for k, v in out.items()}


def _first_bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):    # a pipe would be waited for
            raise CheckpointError(f'{path}: cannot be read (it is {"a folder" if path.is_dir() else "no file"})')
        with path.open('rb') as f:
            head = f.read(512)
    except (OSError, ValueError) as e:
        raise CheckpointError(f'{path}: cannot be read ({getattr(e, "strerror", None) or e})') from e
    if not head:
        raise CheckpointError(f'{path}: the file is empty; download or copy it again')
    return head


def _check_kind(path: Path, head: bytes) -> dict[str, int] | None:
    """Refuse what is no checkpoint; {name of a tensor's memory: bytes} of a zip file."""
    text = head.lstrip().lower()
    if text.startswith((b'<!doctype', b'<html', b'<?xml')):
        raise CheckpointError(f'{path}: this is a web page, not a checkpoint; download the file again')
    if text.startswith(b'version https://git-lfs'):
        raise CheckpointError(f'{path}: this is a pointer of Git LFS, not the file itself; fetch it with git lfs pull')
    members = _members(path)
    if members is not None:
        names = {n.rpartition('/')[2] for n in members}
        if 'data.pkl' not in names:
            raise CheckpointError(f'{path}: a zip file, but not one of torch; unpack it and name the .pth file inside')
        if 'constants.pkl' in names:
            raise CheckpointError(f'{path}: a TorchScript program, not a checkpoint; take the .pth file it came from')
        return {n.partition('/data/')[2]: size for n, size in members.items()}
    if head.startswith(b'PK'):
        raise CheckpointError(f'{path}: it is not complete (a zip file without its end); download or copy it again')
    elif not head.startswith(b'\x80') or tarfile.is_tarfile(path):
        raise CheckpointError(f'{path}: not a file that torch.save wrote')
    return None


def _members(path: Path) -> dict[str, int] | None:
    """{name: bytes} of what is in a zip file; None where it is no zip file."""
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as z:
            members = z.infolist()
    except Exception as e:    # zipfile ends in many kinds of errors
        raise CheckpointError(f'{path}: it is damaged or not complete ({type(e).__name__}: {e}); download or copy it '
                              'again') from e
    unpacked, packed = sum(m.file_size for m in members), path.stat().st_size
    if unpacked > 4 * packed + 1_000_000:    # torch does not compress, and weights hardly can be
        raise CheckpointError(f'{path}: {packed} bytes would unpack to {unpacked}; it is damaged, or made to do harm')
    out: dict[str, int] = {}
    for m in members:    # of two of one name, the smaller counts
        out[m.filename] = min(m.file_size, out.get(m.filename, m.file_size))
    return out


def _read(path: Path, reader: Any) -> Any:
    """What a file holds; `reader` is the module, or what looks like one, that makes objects of a pickle."""
    head = _first_bytes(path)
    if path.suffix == '.safetensors':
        return _with_metadata(*read_safetensors(path))
    sizes = _check_kind(path, head)
    options: dict[str, Any] = {} if reader is pickle or sizes is None else {'sizes': sizes}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')    # torch's notes on old storage classes concern its own developers
            content = torch.load(path, map_location='cpu', weights_only=False, pickle_module=reader, **options)
        if reader is unpickle:
            check_nesting(content, unpickle.Inert)
        elif reader is not pickle and isinstance(content, dict):    # a survey: whole trainers do hold themselves
            check_nesting(content.get('meta'), unpickle.Inert)
        return content
    except unpickle.RefusedError as e:
        raise CheckpointError(f'{path}: it would make an object of {e.name}, which is not known to be harmless and may '
                              'run code. If you trust whoever made the file, read it with --trust (trust=True)') from e
    except MemoryError as e:
        raise CheckpointError(f'{path}: it claims more memory than there is; it is damaged, or made to do harm') from e
    except Exception as e:
        reason = f'{type(e).__name__}: {" ".join(str(e).split())[:200]}'
        raise CheckpointError(f'{path}: it is damaged or not complete ({reason}); download or copy it again') from e


def _with_metadata(state: State, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The content of a safetensors file; one that `omnidet checkpoint` wrote has its `meta` as json."""
    try:
        meta = json.loads(metadata.get(METADATA, '{}'))
    except (ValueError, RecursionError):
        meta = {}
    return {'state_dict': dict(state), 'meta': meta}


def _normalised(content: Any, path: Path) -> dict[str, Any]:
    """Any known layout as MMEngine's."""
    if isinstance(content, nn.Module):
        content = {'state_dict': content.state_dict()}
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: holds an object of type {type(content).__name__}, not a dict of weights')
    key = next((k for k in LAYOUTS if isinstance(content.get(k), (dict, nn.Module))), None)
    if key is None:
        state, rest = content, {}
    else:
        state, rest = content[key], {k: v for k, v in content.items() if k != key}
    if isinstance(state, nn.Module):
        state = state.state_dict()
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        keys = ', '.join(map(str, list(content)[:8])) or 'none'
        raise CheckpointError(f'{path}: no weights in it; its keys are {keys}')
    _check_sizes(tensors, path)
    meta = {str(k): v for k, v in rest['meta'].items()} if isinstance(rest.get('meta'), dict) else {}
    about = meta.get('dataset_meta')
    known = {str(k).lower(): v for k, v in about.items()} if isinstance(about, dict) else {}
    for name in ('CLASSES', 'PALETTE'):    # MMDetection 2.x
        if name in meta:
            known.setdefault(name.lower(), meta[name])
    if (reordered := background_last(tensors, meta)) is not None:
        log.info('%s: it is of MMDetection 1.x, whose class 0 is the background; that is moved to the end', path)
        tensors = reordered
        rest.pop('optimizer', None)    # whose moments are in the old order: a training cannot go on from it
    return {**rest, 'state_dict': tensors, 'meta': {**meta, 'dataset_meta': known}}


def _check_sizes(tensors: State, path: Path) -> None:
    """Refuse tensors that are larger than their file: a few bytes can be made to look like any number of them.

    Raises:
        CheckpointError: one is, or all are by far: some layers share their weights.
    """
    size = path.stat().st_size
    claims = [max(v.untyped_storage().nbytes(), v.numel() * v.element_size()) for v in tensors.values()]
    if max(claims) > size or sum(v.numel() * v.element_size() for v in tensors.values()) > 100 * size:
        raise CheckpointError(f'{path}: a tensor claims {max(claims)} bytes, all claim {sum(claims)}, which is more '
                              f'than the file has ({size}); it is damaged, or made to do harm')


def _through_backbone(model: nn.Module, state: dict[str, Tensor], own: State) -> dict[str, Tensor]:
    """A detector's weights with its backbone's under our names, where they have other ones that the backbone knows."""
    prefix = 'backbone.'
    convert = getattr(getattr(model, 'backbone', None), 'convert_names', None)
    theirs = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if convert is None or all(prefix + k in own for k in theirs):
        return state
    ours = {prefix + k: v for k, v in convert(theirs).items()}
    if sum(k in own for k in ours) <= sum(prefix + k in own for k in theirs):
        return state
    return {**{k: v for k, v in state.items() if not k.startswith(prefix)}, **ours}


def _class_note(model: nn.Module, mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """In words, when the mismatches come from another number of classes."""
    modules = dict(model.named_modules())
    for name, (theirs, mine) in mismatched.items():
        owner = name
        while owner:
            owner = owner.rpartition('.')[0]
            K = getattr(modules.get(owner), 'num_classes', None)
            if isinstance(K, int) and theirs[1:] == mine[1:] and len(mine) and K:
                for extra in (0, 1):    # a softmax has a row for the background
                    per_class, rest = divmod(mine[0], K + extra)
                    if not rest and per_class and theirs[0] % per_class == 0 and theirs[0] // per_class > extra:
                        found = theirs[0] // per_class - extra
                        return (f'the checkpoint is made for {found} classes, the model has {K}: '
                                'the layers that predict classes are not taken over and start anew')
    return ''


def _examples(state: State) -> str:
    return ', '.join(repr(k) for k in list(state)[:2]) or 'none'


def _os_error(e: BaseException | None) -> int | None:
    """The number of the system's error behind `e`; torch's writer wraps it in errors of its own."""
    while e is not None:
        if isinstance(e, OSError) and e.errno is not None:
            return e.errno
        e = e.__cause__ or e.__context__
    return None
