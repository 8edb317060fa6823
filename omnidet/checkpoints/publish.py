"""Checkpoints as one hands them on: weights and meta data, without what only the training needs."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from omnidet.checkpoints.checkpoint import METADATA, load_checkpoint, save_checkpoint
from omnidet.checkpoints.inspection import average_copies
from omnidet.checkpoints.safetensors import write_safetensors
from omnidet.errors import CheckpointError

SUFFIXES = ('.pth', '.pt', '.safetensors')


def publish_checkpoint(source: str | Path, out: str | Path, trust: bool = False) -> tuple[Path, list[str]]:
    """Write the weights and meta data of a checkpoint under a name that carries the beginning of its SHA-256.

    Optimizer, schedules, states of random numbers and the trained weights behind an average stay out: what is left is
    what one deploys.

    Args:
        source: the checkpoint.
        out: where to; `nets/my.pth` becomes `nets/my-0123abcd.pth`, and `.safetensors` is written as such.
        trust: see `load_checkpoint`.

    Returns:
        The file, and what was left out.

    Raises:
        CheckpointError: `source` cannot be read, or `out` has another suffix.
        TrainingError: `out` cannot be written.
    """
    out = check_suffix(out)
    content = load_checkpoint(source, trust)
    copies = average_copies(content['state_dict'])
    dropped = [k for k in content if k not in ('state_dict', 'meta')] + ([f'{len(copies)} ema_*'] if copies else [])
    state = {k: v.detach().clone() for k, v in content['state_dict'].items() if k not in copies}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.publish-') as folder:
        temporary = Path(folder, f'weights{out.suffix}')
        write_weights(temporary, state, content['meta'])
        digest = hashlib.sha256()
        with temporary.open('rb') as f:
            while block := f.read(1 << 20):
                digest.update(block)
        final = out.with_name(f'{out.stem}-{digest.hexdigest()[:8]}{out.suffix}')
        temporary.replace(final)
    return final, dropped


def write_weights(path: Path, state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write weights and meta data in the format that the path's suffix says; a safetensors file has `meta` as json."""
    if path.suffix == '.safetensors':
        write_safetensors(path, state, {METADATA: json.dumps(meta, default=str)})
    else:
        save_checkpoint(path, {'meta': dict(meta), 'state_dict': dict(state)})


def check_suffix(path: str | Path) -> Path:
    """`path`, if it says which format to write.

    Raises:
        CheckpointError: it does not.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f'{path}: the suffix {path.suffix!r} says no format; allowed are {", ".join(SUFFIXES)}')
    return path
